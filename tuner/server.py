"""Serves a page on one address of this machine, until it is stopped."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn

from tuner.connection import bounds
from tuner.errors import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

FINISH = 1  # seconds that an answer has when the server ends
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def new_password(host: str) -> str | None:
    """A password for those who reach an address; null where these are users of this machine.

    Args:
        host: name or address that the server is told to listen on.
    """
    return None if host in LOOPBACK else secrets.token_urlsafe(16)


def tell(password: str, host: str) -> None:
    """Print the password, and that it is not encrypted on its way."""
    print(f"Password: {password} (under any name)", flush=True)
    print(
        f"warning: --host {host}: password and texts are not encrypted on their way",
        file=sys.stderr,
    )


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
        **bounds(),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=FINISH + 4,
    )
