from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from comparisons import Server, start_server


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Server]]:
    """Starts servers that are stopped at the end."""
    running: list[Server] = []

    def start(folder: Path, port: int = 0) -> Server:
        running.append(start_server(folder, port))
        return running[-1]

    yield start
    for server in running:
        server.stop()
