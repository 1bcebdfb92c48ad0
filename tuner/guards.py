"""What stands in front of a page or an endpoint: whom it answers, where, and how much it takes."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
import secrets
import socket
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATIENCE = 20  # seconds that the body of a request may take to come
HOST = re.compile(r"(\[[\da-fA-F:.]+\]|[\w.-]+)(?::\d{1,5})?", re.ASCII)  # and a port
HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # without any, browsers would call the origin of a form null
    "x-content-type-options": "nosniff",
}


class Guard:
    """Lets in requests of this page alone, and says what browsers may do with the answers.

    A page of another site can send requests to this machine. It cannot choose the `Origin` that its
    browser adds; and by DNS rebinding it can make its own name mean this machine, but then its name
    is in `Host`.

    Args:
        app: what is guarded.
        host: name or address that the server was told to listen on.
        policy: what the page may load and run, as a Content-Security-Policy.
        programs: let requests in that name no origin, as programs send them and browsers do not.
    """

    def __init__(self, app: ASGIApp, host: str, policy: str, *, programs: bool = False) -> None:
        self.programs = programs
        self.app, self.names = app, {"localhost", host.lower(), socket.gethostname().lower()}
        self.headers = [
            (key.encode(), value.encode())
            for key, value in {"content-security-policy": policy, **HEADERS}.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":  # the server's own word on start and end
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {key for key, _ in self.headers}
                kept = [pair for pair in message["headers"] if pair[0].lower() not in own]
                message["headers"] = [*kept, *self.headers]
            await send(message)

        host = _header(scope, b"host")
        if not self._is_ours(host):
            refused = "refused: this name is not that of the page"
        elif scope["method"] not in ("GET", "HEAD") and not self._is_own(scope, host):
            refused = "refused: this was sent by another page"
        else:
            await self.app(scope, receive, send_with_headers)
            return
        await PlainTextResponse(refused, 403)(scope, receive, send_with_headers)

    def _is_own(self, scope: Scope, host: str) -> bool:
        origin = _header(scope, b"origin")
        if self.programs and b"origin" not in dict(scope["headers"]):
            # A browser that leaves the origin out still says where the request comes from.
            return _header(scope, b"sec-fetch-site") in ("", "same-origin", "none")
        return origin == f"http://{host}"

    def _is_ours(self, host: str) -> bool:
        found = HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        try:
            ipaddress.ip_address(name)  # an address cannot be rebound, a name can
        except ValueError:
            return name in self.names
        return True


class Limit:
    """Takes the body of a request whole before it is passed on, and no long or slow one.

    Args:
        app: what is guarded.
        largest: bytes of a body at most.
    """

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self.app, self.largest = app, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        try:
            async with asyncio.timeout(PATIENCE):
                while more and len(body) <= self.largest:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
        except TimeoutError:
            await PlainTextResponse("that took too long", 408)(scope, receive, send)
            return
        if len(body) > self.largest:
            await PlainTextResponse("that is too long", 413)(scope, receive, send)
            return
        await self.app(scope, whole(body, receive), send)


class Doors:
    """Lets requests in for a few paths; there is nothing else here.

    Args:
        app: what has more doors.
        paths: what the path of a request begins with; `/` alone is the first page.
    """

    def __init__(self, app: ASGIApp, paths: tuple[str, ...]) -> None:
        self.app, self.paths = app, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer that there is no such page."""
        path = scope.get("path", "/")  # the server's own word on start and end has none
        if path == "/" or path.startswith(self.paths):
            await self.app(scope, receive, send)
        else:
            await PlainTextResponse("there is no such page", 404)(scope, receive, send)


class Password:
    """Lets in those who know the password, under any name (HTTP's basic scheme, RFC 7617).

    Args:
        app: what is closed to others.
        password: what they have to know.
    """

    def __init__(self, app: ASGIApp, password: str) -> None:
        self.app, self.password = app, password.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or ask for the password."""
        if scope["type"] != "http" or self._known(_header(scope, b"authorization")):
            await self.app(scope, receive, send)
            return
        asks = {"www-authenticate": 'Basic realm="tuner", charset="UTF-8"'}
        await PlainTextResponse("the password is missing or wrong", 401, asks)(scope, receive, send)

    def _known(self, given: str) -> bool:
        scheme, _, value = given.partition(" ")
        try:
            _, _, typed = base64.b64decode(value, validate=True).partition(b":")
        except ValueError:
            return False
        return scheme.lower() == "basic" and secrets.compare_digest(typed, self.password)


def whole(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, and then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return messages.pop() if messages else await receive()

    return received


def _header(scope: Scope, name: bytes) -> str:
    """A header of a request, empty where it has none; the last one of several."""
    return dict(scope["headers"]).get(name, b"").decode("latin-1")
