"""A customer's message and an agent's response."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tuner.data.annotate import ANNOTATORS
from tuner.data.prompts.plain import PlainPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class CustomerAgent(PlainPrompt):
    """Renders `Customer message: ...` and `Agent response: ...` on a line each.

    With `prefix=["priority", "sentiment"]` a customer's line starts like
    `[PRIORITY: HIGH] [SENTIMENT: NEGATIVE] `. The values come from that message alone (see
    `tuner.data.annotate`), so training, evaluation and chat write the same.

    Args:
        prefix: annotations in front of each customer message, in this order; none when null.
    """

    reply_mark: ClassVar[str] = "Agent response:"

    def __init__(self, prefix: list[Literal["priority", "sentiment"]] | None = None) -> None:
        self.prefix = prefix

    def user_turn(self, text: str) -> str:
        """See the base class."""
        tags = [f"[{name}: {ANNOTATORS[name](text)}] ".upper() for name in self.prefix or ()]
        return f"Customer message: {''.join(tags)}{text}"

    def template(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """See the base class: none can say what annotations a message gets."""
        return None if self.prefix else super().template(tokenizer)
