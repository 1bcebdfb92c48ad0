"""From text to token ids and labels: one tokenisation, the loss mask by character offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tuner.data.example import Message
from tuner.data.prompts import Prompt
from tuner.data.prompts.base import Rendered
from tuner.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label of a token that carries no loss, as torch's cross-entropy has it
BLOCK = 1024  # rows a tokeniser call


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row as the model sees it.

    Attributes:
        input_ids: (T,) int32.
        labels: (T,) int32, the same ids where the loss is and -100 elsewhere; not shifted.
        row: place of the row in its split.
    """

    input_ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]
    row: int = 0

    @property
    def targets(self) -> int:
        """Number of tokens that carry loss; the first token of a text is never predicted."""
        return int(np.count_nonzero(self.labels[1:] != IGNORED))


def encode(
    conversations: Sequence[Sequence[Message]], prompt: Prompt, tokenizer: PreTrainedTokenizerBase
) -> list[Encoded]:
    """Tokenise conversations and mask all but the supervised ranges.

    A token is supervised when its first character lies in a supervised range, so the mask and the
    text always agree. A token that reaches from the header into a reply would make training and
    generation see different prompts: such a row gets no labels at all and curation drops it.

    Returns:
        One `Encoded` a conversation, in order.

    Raises:
        UserError: the tokenizer does not tell where in the text its tokens stand.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"model.base: the tokenizer of '{tokenizer.name_or_path}' is a slow one, which does "
            "not tell where its tokens stand; the base needs a tokenizer.json"
        )
    backend: Any = tokenizer.backend_tokenizer
    backend.no_truncation()  # a tokenizer.json may come with both switched on
    backend.no_padding()
    encoded: list[Encoded] = []
    for start in range(0, len(conversations), BLOCK):
        rendered = [prompt.render(c, tokenizer) for c in conversations[start : start + BLOCK]]
        # The template has written every special token, the beginning of the text included.
        found = backend.encode_batch([r.text for r in rendered], add_special_tokens=False)
        for item, encoding in zip(rendered, found, strict=True):
            ids = np.asarray(encoding.ids, dtype=np.int32)
            labels = _labels(ids, encoding, item, tokenizer)
            encoded.append(Encoded(ids, labels, row=len(encoded)))
    return encoded


def _labels(
    ids: npt.NDArray[np.int32],
    encoding: Encoding,
    rendered: Rendered,
    tokenizer: PreTrainedTokenizerBase,
) -> npt.NDArray[np.int32]:
    """The labels of one row; all ignored where a reply cannot be told from its header."""
    labels = np.full_like(ids, IGNORED)
    for first, last in rendered.spans:
        place = _seam(encoding, first)
        if place is None:
            header = tokenizer(rendered.text[:first], add_special_tokens=False)["input_ids"]
            place = len(header)
            if list(ids[:place]) != list(header):
                return np.full_like(ids, IGNORED)
        upto = _end(encoding, last)
        labels[place:upto] = ids[place:upto]
    return labels


# Ranges are asked for one by one: a list of all of them would cost a quarter of the tokenisation.
def _seam(encoding: Encoding, first: int) -> int | None:
    """The token that starts at a character, with one before it that ends there.

    None where ranges do not meet at the character: some tokenizers leave the blanks of a token
    out of its range, so that ranges cannot tell whether header and reply share a token.
    """
    place = encoding.char_to_token(first)
    if not place:
        return None
    before, after = encoding.token_to_chars(place - 1), encoding.token_to_chars(place)
    return place if before and after and before[1] == first == after[0] else None


def _end(encoding: Encoding, last: int) -> int:
    """The number of tokens that start before a character."""
    inside = encoding.char_to_token(last - 1)
    if inside is None:  # a blank that belongs to no token's range
        return sum(start < last for start, _ in encoding.offsets)
    while inside < len(encoding.ids) and (chars := encoding.token_to_chars(inside)):
        if chars[0] >= last:  # the bytes of one character share its range
            break
        inside += 1
    return inside


def encode_header(
    messages: Sequence[Message], prompt: Prompt, tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """Token ids that a reply to `messages` continues: the same ids that training sees."""
    text = prompt.header(messages, tokenizer)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
