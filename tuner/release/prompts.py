"""The prompts that an export is tried on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.data.example import Message
from tuner.data.prompts import Prompt
from tuner.errors import UserError
from tuner.evaluation.testset import load_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tuner.evaluation.systems import System

Conversation = tuple[Message, ...]
COUNT = 8

# Of many kinds, so that a rendering that looks at what a turn says writes some of them differently.
BUILT_IN: tuple[Conversation, ...] = (
    (Message("user", "Where is my order?"),),
    (Message("user", "I need my money back today. This is urgent!"),),
    (Message("user", "Thank you so much, the new lamp is wonderful."),),
    (Message("user", "The cup arrived broken. I am very disappointed.\n\nPlease call me."),),
    (Message("user", "Schreibe bitte einen Satz über Größe, Maß und 東京 🙂"),),
    (Message("system", "Answer in one sentence."), Message("user", "What does 'refund' mean?")),
    (
        Message("user", "My name is Ann."),
        Message("assistant", "Hello Ann, how can I help?"),
        Message("user", "I cannot log in."),
    ),
    (
        Message("system", "You are the help desk of a bookshop."),
        Message("user", 'Do you have "Emma"?'),
        Message("assistant", "Yes, 3 copies."),
        Message("user", "Then I take one."),
    ),
)


def own_prompts(
    system: System, prompt: Prompt, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Conversation], str]:
    """Some validation prompts of a run; built-in ones where its data is gone or has none.

    Args:
        system: the run.
        prompt: its rendering.
        tokenizer: of its base.

    Returns:
        The prompts, and what they are.
    """
    try:
        data = load_data(system.config["data"])
        rows = data.prepare(tokenizer).splits["val"][:COUNT]
    except UserError:
        rows = []
    if rows:
        return [row.prompt for row in rows], "validation prompts of the run"
    known = [one for one in BUILT_IN if _accepts(prompt, one, tokenizer)]
    return known[:COUNT], "built-in prompts"


def _accepts(prompt: Prompt, messages: Sequence[Message], tokenizer: Any) -> bool:
    try:
        prompt.header(messages, tokenizer)
    except UserError:  # some templates know no system turn
        return False
    return True
