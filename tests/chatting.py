"""A running chat page, and what is behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speakers import Slow

from tuner.chat.history import History
from tuner.chat.page import Visit, build_app
from tuner.chat.settings import Settings
from tuner.chat.talk import Talk
from tuner.server import Server, address, listen, settings


@dataclass
class Page:
    """A running page, and what is behind it."""

    url: str
    speaker: Slow
    folder: Path

    def transcripts(self) -> list[list[dict[str, Any]]]:
        files = [file.read_text().splitlines() for file in self.folder.glob("*.jsonl")]
        return [[json.loads(row) for row in rows] for rows in files]


@contextmanager
def open_page(folder: Path) -> Iterator[Page]:
    """Serves it, in a thread."""
    speaker = Slow()
    speaker.names = ["base", "lora"]
    speaking: Any = speaker

    def begin() -> Visit:
        return Visit(Talk(speaking, Settings()), History(folder, "lora"))

    taken = listen("127.0.0.1", 0)
    server = Server(settings(build_app(begin, "127.0.0.1", None)))
    thread = threading.Thread(target=server.run, args=[[taken]])
    thread.start()
    yield Page(address("127.0.0.1", taken), speaker, folder)
    server.should_exit = True
    thread.join()
