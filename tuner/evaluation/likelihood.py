"""How likely a model finds given texts: nats of each, whatever stands beside it in a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tuner.data.batching import join
from tuner.data.encode import IGNORED, Encoded, encode, encode_header
from tuner.loss import token_nats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tuner.data.example import Example
    from tuner.data.prompts import Prompt


def row_nats(model: Any, rows: Sequence[Encoded], *, batch_size: int) -> list[tuple[float, int]]:
    """The summed negative log-likelihood of each row's supervised tokens.

    Args:
        model: a causal language model on its device, in evaluation mode.
        rows: token ids with labels where nats are wanted; each has at least one.
        batch_size: rows computed together, sorted by length.

    Returns:
        Nats and the number of tokens they are of, in the order of the rows.
    """
    device = next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].input_ids))
    found: dict[int, tuple[float, int]] = {}
    for start in range(0, len(order), batch_size):
        places = tuple(order[start : start + batch_size])
        batch = join([rows[place] for place in places])
        batch["input_ids"] = batch["input_ids"].to(device)
        batch["labels"] = batch["labels"].to(device)
        with torch.inference_mode():
            nats, owners = token_nats(model, batch)
            sums = torch.zeros(len(places), dtype=torch.float64, device=device)
            sums.index_add_(0, owners, nats.double())
        counts = owners.bincount(minlength=len(places))
        found |= zip(places, zip(sums.tolist(), counts.tolist(), strict=True), strict=True)
    return [found[place] for place in range(len(rows))]


def encode_replies(
    examples: Sequence[Example], prompt: Prompt, tokenizer: PreTrainedTokenizerBase, limit: int
) -> list[Encoded | None]:
    """The examples as the model sees them, with labels on the last reply alone.

    Args:
        examples: prompts and the replies that are expected.
        prompt: renders them.
        tokenizer: of the base.
        limit: tokens that the base was made for.

    Returns:
        One row an example; None without a reply, or where it does not fit whole.
    """
    rows = encode([example.messages for example in examples], prompt, tokenizer)
    found: list[Encoded | None] = []
    for example, row in zip(examples, rows, strict=True):
        labels = row.labels.copy()
        labels[: len(encode_header(example.prompt, prompt, tokenizer))] = IGNORED
        whole = Encoded(row.input_ids, labels, row.row)
        fits = example.reply.strip() and whole.targets and len(row.input_ids) <= limit
        found.append(whole if fits else None)
    return found
