"""Serves the rating page on one address of this machine."""

from __future__ import annotations

import errno
import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn

from tuner.errors import UserError

if TYPE_CHECKING:
    from starlette.applications import Starlette


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
    except (OSError, OverflowError) as error:
        option = "--host" if isinstance(error, socket.gaierror) else "--port"
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


def serve(app: Starlette, taken: socket.socket) -> None:
    """Answer requests until the process is stopped by Ctrl+C or a signal.

    Args:
        app: what answers.
        taken: the socket, from `listen`.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,  # seconds
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[taken])
