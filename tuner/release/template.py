"""The rendering of a run as a chat template, where there is one that writes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.data.encode import encode_header
from tuner.data.example import Message
from tuner.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerBase

    from tuner.data.prompts import Prompt

REPLY = Message("assistant", "Yes, of course.")


def chat_template(
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Iterable[Sequence[Message]],
) -> str | None:
    """A chat template that writes conversations as the rendering does, token for token.

    Args:
        prompt: the rendering.
        tokenizer: what the template is for.
        conversations: each up to the turn that is to be answered; the template is tried on them.

    Returns:
        Null where the rendering has none, or it writes one of the conversations differently.
    """
    found = prompt.template(tokenizer)
    if found is None or not all(_same(found, prompt, tokenizer, one) for one in conversations):
        return None
    return found


def _same(
    template: str, prompt: Prompt, tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> bool:
    whole = [*messages, REPLY]
    try:
        ids, text = encode_header(messages, prompt, tokenizer), prompt.render(whole, tokenizer).text
    except UserError:  # a conversation that this rendering refuses
        return True
    try:
        asked = tokenizer.apply_chat_template(
            [turn.as_dict() for turn in messages],
            chat_template=template,
            add_generation_prompt=True,
            return_dict=False,
        )
        written = tokenizer.apply_chat_template(
            [turn.as_dict() for turn in whole], chat_template=template, tokenize=False
        )
    except Exception:  # templates raise what they like
        return False
    return asked == ids and written == text
