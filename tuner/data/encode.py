"""From text to token ids and labels: one tokenisation, the loss mask by character offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tuner.data.example import Message
from tuner.data.prompts import Prompt
from tuner.data.prompts.base import Rendered
from tuner.errors import UserError

if TYPE_CHECKING:
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
    encoded: list[Encoded] = []
    for start in range(0, len(conversations), BLOCK):
        rendered = [prompt.render(c, tokenizer) for c in conversations[start : start + BLOCK]]
        # The template has written every special token, the beginning of the text included.
        batch = tokenizer(
            [r.text for r in rendered],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,  # it warns of rows over the model's context, which curation drops
        )
        for item, ids, offsets in zip(
            rendered, batch["input_ids"], batch["offset_mapping"], strict=True
        ):
            labels = _labels(ids, offsets, item, tokenizer)
            encoded.append(Encoded(np.asarray(ids, dtype=np.int32), labels, row=len(encoded)))
    return encoded


def _labels(
    ids: list[int],
    offsets: list[tuple[int, int]],
    rendered: Rendered,
    tokenizer: PreTrainedTokenizerBase,
) -> npt.NDArray[np.int32]:
    """The labels of one row; all ignored where a reply cannot be told from its header."""
    tokens = np.asarray(ids, dtype=np.int32)
    starts, ends = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    labels = np.full_like(tokens, IGNORED)
    for first, last in rendered.spans:
        place = int(np.searchsorted(starts, first))
        # Some tokenizers leave the blanks of a token out of its range, so ranges tell the seam
        # only where two of them meet there; elsewhere the header is tokenised by itself.
        meet = 0 < place < len(ids) and ends[place - 1] == first == starts[place] < ends[place]
        if not meet:
            header = tokenizer(rendered.text[:first], add_special_tokens=False)["input_ids"]
            place = len(header)
            if ids[:place] != list(header):
                return np.full_like(tokens, IGNORED)
        upto = int(np.searchsorted(starts, last))
        labels[place:upto] = tokens[place:upto]
    return labels


def encode_header(
    messages: Sequence[Message], prompt: Prompt, tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """Token ids that a reply to `messages` continues: the same ids that training sees."""
    text = prompt.header(messages, tokenizer)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def special_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What would become a control token if a text held it, named by the tokenizer or not."""
    added = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    return sorted({*tokenizer.all_special_tokens, *added})
