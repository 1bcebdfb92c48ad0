"""A conversation: whose turn it is, what each system remembers, and what no longer fits."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tuner.chat.speaker import Said
from tuner.data.example import Message
from tuner.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Generator

    from tuner.chat.settings import Settings
    from tuner.chat.speaker import Speaker


@dataclass(frozen=True)
class Turn:
    """A question and the replies to it.

    Attributes:
        number: place of the question in the chat, from 1; a reset does not begin anew.
        message: the question.
        system: the system prompt; null for that of the run's rendering.
        settings: how replies are drawn.
        headers: what each system continues, as token ids.
        forgotten: turns that each system has no room for any more.
        said: the reply of each system that has begun one.
    """

    number: int
    message: Message
    system: str | None
    settings: Settings
    headers: dict[str, list[int]]
    forgotten: dict[str, int]
    said: dict[str, Said] = field(default_factory=dict[str, Said])


class Talk:
    """A conversation with each of the speaker's systems, which remember their own replies.

    Args:
        speaker: who answers.
        settings: how replies are drawn.
        system: the system prompt; null for that of the run's rendering.

    Raises:
        UserError: the rendering takes no system prompt.
    """

    def __init__(self, speaker: Speaker, settings: Settings, system: str | None = None) -> None:
        self.speaker, self.settings = speaker, settings
        self.names = speaker.names
        self.system: str | None = None
        self._asked = 0
        self.instruct(system)
        self.reset()

    def instruct(self, system: str | None) -> None:
        """Set the system prompt; it holds from the next question on, for all that was said before.

        Raises:
            UserError: the rendering takes none.
        """
        before, self.system = self.system, _clean(system or "") or None
        try:
            self._header([], Message("user", "?"))
        except UserError:
            self.system = before
            raise

    def reset(self) -> None:
        """Forget what was said."""
        self._past: dict[str, list[Message]] = {name: [] for name in self.names}

    def ask(self, text: str) -> Turn:
        """Begin a turn; the oldest turns leave where they have no room beside it.

        Raises:
            UserError: the question is empty, or has no room with nothing beside it.
        """
        message = Message("user", _clean(text))
        if not message.content:
            raise UserError("the message is empty")
        room, wanted = self.speaker.room, self.settings.max_new_tokens
        alone = len(self._header([], message))
        if room is not None and alone + wanted > room:
            raise UserError(
                f"the message takes {alone} tokens and the reply up to {wanted} (max_new_tokens), "
                f"more than the {room} that the model was made for; shorten one of them"
            )
        headers: dict[str, list[int]] = {}
        forgotten: dict[str, int] = {}
        for name, past in self._past.items():
            before = len(past)
            headers[name] = self._header(past, message)
            while room is not None and len(headers[name]) + wanted > room:
                del past[:2]
                headers[name] = self._header(past, message)
            forgotten[name] = (before - len(past)) // 2
        self._asked += 1
        return Turn(self._asked, message, self.system, self.settings, headers, forgotten)

    def reply(self, turn: Turn, name: str) -> Generator[Said]:
        """Let a system answer; what is written when the iterator is closed is its answer.

        A turn without an answer is not remembered.

        Args:
            turn: from `ask`.
            name: of the system.

        Yields:
            The reply so far, after each token.
        """
        past = self._past[name]
        turn.said[name] = Said()
        said = self.speaker.say(name, turn.headers[name], turn.settings, turn.number)
        try:
            with closing(said):
                for turn.said[name] in said:
                    yield turn.said[name]
        finally:
            if text := turn.said[name].text:
                past += [turn.message, Message("assistant", text)]

    def _header(self, past: list[Message], message: Message) -> list[int]:
        first = [Message("system", self.system)] if self.system else []
        return self.speaker.header([*first, *past, message])


def _clean(text: str) -> str:
    """A text that can be tokenised: half a surrogate pair stands for nothing."""
    return text.encode("utf-8", "replace").decode().strip()
