"""Serves a page on one address of this machine, and answers requests of that page alone."""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
import os
import secrets
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import uvicorn
from starlette.responses import PlainTextResponse

from tuner.errors import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

FINISH = 1  # seconds that an answer has when the server ends
LOOPBACK = ("127.0.0.1", "::1", "localhost")
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
    """

    def __init__(self, app: ASGIApp, host: str, policy: str) -> None:
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
        elif scope["method"] not in ("GET", "HEAD") and _header(scope, b"origin") != (
            f"http://{host}"
        ):
            refused = "refused: this was sent by another page"
        else:
            await self.app(scope, receive, send_with_headers)
            return
        await PlainTextResponse(refused, 403)(scope, receive, send_with_headers)

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self.names:
                return True
            ipaddress.ip_address(name)  # an address cannot be rebound, a name can
        except ValueError:
            return False
        return True


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


def _header(scope: Scope, name: bytes) -> str:
    """A header of a request, empty where it has none; the last one of several."""
    return dict(scope["headers"]).get(name, b"").decode("latin-1")


def listen(host: str, port: int) -> socket.socket:
    """Take the address, before anything is said about it.

    Args:
        host: name or address; `127.0.0.1` is this machine alone.
        port: 0 for any that is free.

    Returns:
        The listening socket.

    Raises:
        UserError: the address is taken, or not of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, ValueError) as error:  # a name may be none in any alphabet
        option = "--host" if isinstance(error, socket.gaierror | ValueError) else "--port"
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        hint = ". --port 0 takes any that is free" if taken else ""
        raise UserError(f"{option}: cannot listen on {host}:{port}: {error}{hint}") from error


def address(host: str, taken: socket.socket) -> str:
    """Where a browser finds the page."""
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{taken.getsockname()[1]}/"


def can_show() -> bool:
    """Whether this machine has a screen for a browser; one for the terminal is of no use here."""
    return sys.platform in ("darwin", "win32") or any(
        map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))
    )


class Server(uvicorn.Server):
    """Ends although a page listens to answers that do not."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers be finished for a moment, then hang up."""
        asyncio.get_running_loop().call_later(FINISH, self._hang_up)
        await super().shutdown(sockets)

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def serve(app: ASGIApp, taken: socket.socket) -> None:
    """Answer requests until the process is stopped by Ctrl+C or a signal.

    Args:
        app: what answers.
        taken: the socket, from `listen`.
    """
    with suppress(KeyboardInterrupt):
        Server(settings(app)).run(sockets=[taken])


def settings(app: ASGIApp) -> uvicorn.Config:
    """How the server of a page is set up."""
    return uvicorn.Config(
        app,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=FINISH + 4,
    )
