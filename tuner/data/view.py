"""A row as training sees it, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.data.encode import IGNORED, Encoded
from tuner.data.example import Example
from tuner.data.prompts import Prompt
from tuner.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def as_record(
    example: Example,
    encoded: Encoded,
    split: str,
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    """A row as plain JSON values: what it is, its text, its token ids and its labels."""
    return {
        "id": example.id,
        "group": example.group,
        "category": example.category,
        "split": split,
        "text": prompt.render(example.messages, tokenizer).text,
        "input_ids": encoded.input_ids.tolist(),
        "labels": encoded.labels.tolist(),
        "meta": dict(example.meta),
    }


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of a token.

    Attributes:
        text: part of the rendered text; empty for the later bytes of a character.
        loss: whether the model learns to predict the token.
        special: whether it is a control token.
    """

    text: str
    loss: bool
    special: bool


def pieces(record: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Piece]:
    """The text of a row, cut into its tokens.

    Args:
        record: of `as_record`.
        tokenizer: the one that made the row's token ids.

    Raises:
        UserError: the text does not give the stored token ids.
    """
    found = tokenizer(record["text"], add_special_tokens=False, return_offsets_mapping=True)
    if list(found["input_ids"]) != record["input_ids"]:
        raise UserError(f"{record['id']}: its text does not give the tokens that are trained on")
    special = set(tokenizer.all_special_ids)
    cut: list[Piece] = []
    end = 0
    for token, label, (_, last) in zip(
        record["input_ids"], record["labels"], found["offset_mapping"], strict=True
    ):
        # From the end of the token before: blanks that no token's range holds belong to the next.
        cut.append(Piece(record["text"][end:last], label != IGNORED, token in special))
        end = max(end, last)
    return cut
