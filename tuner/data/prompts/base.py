"""What every rendering has in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING

from tuner.data.example import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_SYSTEM = Template(
    "{%- if messages[0]['role'] != 'system' -%}"
    "{%- set messages = [{'role': 'system', 'content': $text}] + messages -%}"
    "{%- endif %}"
)
PROBE = (Message("user", "Question?"), Message("assistant", "Answer."))


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as the text that the model reads.

    Attributes:
        text: the whole text.
        spans: half-open character ranges that carry loss, in order, each ending with the
            end of its turn.
    """

    text: str
    spans: tuple[tuple[int, int], ...]


class Prompt(ABC):
    """Turns messages into text: the same for training, evaluation and chat.

    A rendering keeps every argument of its constructor in an attribute of the same name, so that
    an exported adapter can say how it was trained.
    """

    @abstractmethod
    def check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raise UserError when this rendering cannot work with the tokenizer."""

    @abstractmethod
    def render(self, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> Rendered:
        """A whole conversation with the ranges that carry loss."""

    @abstractmethod
    def header(self, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> str:
        """The text up to where the assistant's next reply starts: what generation continues."""

    def template(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """A chat template (Jinja) that writes the same, for tools that do not know this class.

        Returns:
            Null where there is none, as when the words around a turn depend on what it says.
        """
        return None

    def end_token(self, tokenizer: PreTrainedTokenizerBase) -> int | None:
        """Id of the token that this rendering writes to end a reply.

        Only an added token counts, such as `</s>` or `<|im_end|>`: it stands for nothing else. A
        mark that is spelt with ordinary pieces has none, because its pieces also stand in replies
        (the last one of `[END]` is `]`). Of several the last ends the turn.

        Returns:
            The id, or null when no token of its own follows a reply.
        """
        text, reply = self.render(PROBE, tokenizer).text, PROBE[-1].content
        found = text.rfind(reply)
        if found < 0:  # a template may rewrite what it is given
            return None
        batch = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        added = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
        ends = [
            token
            for token, (start, _) in zip(batch["input_ids"], batch["offset_mapping"], strict=True)
            if start >= found + len(reply) and token in added
        ]
        return ends[-1] if ends else None


def special_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What would become a control token if a text held it, named by the tokenizer or not."""
    added = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    return sorted({*tokenizer.all_special_tokens, *added})


def quoted(text: str) -> str:
    """The text as a string in a chat template."""
    return json.dumps(text, ensure_ascii=False)


def default_system(text: str) -> str:
    """The start of a chat template: a system turn for conversations that have none."""
    return DEFAULT_SYSTEM.substitute(text=quoted(text))
