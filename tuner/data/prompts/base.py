"""What every rendering has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner.data.example import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    """Turns messages into text: the same for training, evaluation and chat."""

    @abstractmethod
    def check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raise UserError when this rendering cannot work with the tokenizer."""

    @abstractmethod
    def render(self, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> Rendered:
        """A whole conversation with the ranges that carry loss."""

    @abstractmethod
    def header(self, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> str:
        """The text up to where the assistant's next reply starts: what generation continues."""
