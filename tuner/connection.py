"""Connections to a server of this machine: none waits for ever, and they are not too many."""

from __future__ import annotations

import logging
import resource
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

PATIENCE = 20  # seconds that the head of a request may take to come
FILES = 4096  # that a server asks for; a quarter of them are for connections


class Connection(H11Protocol):
    """Hangs up on who asks nothing, where uvicorn would wait for as long as it takes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; where too many do, the one that waits longest has to go."""
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self.deadline = self.loop.call_later(PATIENCE, transport.abort)
        if len(self.connections) > most():
            everybody = [one for one in self.connections if isinstance(one, Connection)]
            idle = [one for one in everybody if not one.asked()]  # this one among them
            first = min(idle, key=lambda one: one.idle_since)
            self.connections.discard(first)
            first.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what has come; the wait goes on where this is not the whole head of a request."""
        super().data_received(data)
        if self.asked():  # its body and its answer take their own time
            self.deadline.cancel()
        elif self.deadline.cancelled():
            self.deadline = self.loop.call_later(PATIENCE, self.transport.abort)

    def on_response_complete(self) -> None:
        """Be idle from now on."""
        self.idle_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self.deadline.cancel()
        super().connection_lost(exc)

    def asked(self) -> bool:
        """Whether there is a request that is not answered yet."""
        # There is none before the first.
        return self.cycle is not None and not self.cycle.response_complete  # pyright: ignore


def bounds() -> dict[str, Any]:
    """What uvicorn is told, so that connections leave files for what else the process opens.

    It does not log what is no HTTP: whoever connects could fill a disk.

    Without a file for one more, asyncio takes no connection, and says so again and again. It takes
    as many as `backlog` at once, some times over before the first of them can be given up.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_worth_a_line)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FILES:  # below 0, there is no limit
        allowed = FILES if hard < 0 else min(FILES, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return {"http": Connection, "ws": "none", "backlog": _files() // 16}


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return record.msg != "Invalid HTTP request received."


def most() -> int:
    """Connections at a time."""
    return _files() // 4


def _files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return FILES if soft < 0 else min(FILES, soft)
