"""A speaker without a model: it says what a script has, word by word."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

from tuner.chat.settings import Settings
from tuner.chat.speaker import Said
from tuner.data.example import Message
from tuner.errors import UserError


class Scripted:
    """Stands in for `Speaker`; a token is a word.

    Args:
        replies: what each system says, or what makes it of the number of the question.
        room: words of prompt and reply.
        systems: whether the rendering takes a system prompt.
    """

    def __init__(
        self,
        replies: dict[str, str | Callable[[int], str]],
        *,
        room: int | None = None,
        systems: bool = True,
    ) -> None:
        self.replies, self.room, self.systems = replies, room, systems
        self.names = list(replies)
        self.headers: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.stopped = 0

    def header(self, messages: Sequence[Message]) -> list[int]:
        if not self.systems and messages[0].role == "system":
            raise UserError("this rendering takes no system prompt")
        self.headers.append(" ".join(f"{m.role[0].upper()}:{m.content}" for m in messages))
        return [len(self.headers) - 1] * len(self.headers[-1].split())

    def say(self, name: str, header: list[int], settings: Settings, draw: int) -> Generator[Said]:
        self.asked.append((name, self.headers[header[0]]))
        script: Any = self.replies[name]
        text = script(draw) if callable(script) else script
        words = text.split(" ")
        kept = words[: settings.max_new_tokens]
        try:
            for count in range(1, len(kept) + 1):
                yield Said(" ".join(kept[:count]).strip(), "stopped", count, 0.1 * count)
        except GeneratorExit:
            self.stopped += 1
            raise
        reason = "length" if len(words) > len(kept) else "eos" if text.strip() else "empty"
        yield Said(" ".join(kept).strip(), reason, len(kept), 0.1 * len(kept))


class Slow(Scripted):
    """Says a word only while it may."""

    def __init__(self) -> None:
        super().__init__({})
        self.may = threading.Event()

    def say(self, *args: Any) -> Any:
        for said in super().say(*args):
            yield said
            while not self.may.wait(0.01):
                yield said
