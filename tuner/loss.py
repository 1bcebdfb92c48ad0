"""The loss that is trained and validated on: logits only where a label is, a part at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from tuner.attention import attends_by_row, line_of
from tuner.cross_entropy import cross_entropy
from tuner.data.encode import IGNORED
from tuner.devices import is_sharded, whole_base

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tuner.data.batching import Batch

# Logits held at a time: 256 MiB in float32, and their gradients take as much again. Where there are
# more, the output layer is computed once more going back, which is 2 % of a TinyLlama.
PART = 2**26
SHORT = 64  # tokens up to which padding costs less than a block of its own


def summed_loss(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed next-token cross-entropy over the supervised tokens of a batch.

    Args:
        model: a causal language model of transformers, with or without a peft adapter.
        batch: rows end to end.

    Returns:
        The sum in nats (scalar float32) and the number of tokens (scalar int64).
    """
    nats, owners = token_nats(model, batch)
    return nats.sum(), torch.tensor(len(owners), device=nats.device)


def token_nats(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """The negative log-likelihood of each of the K supervised tokens of a batch.

    Rows stay end to end for a model that attends by row; for others, those of like length are
    padded on the right to one block, where no token with a label sees a padded one.

    Args:
        model: see `summed_loss`.
        batch: likewise.

    Returns:
        Nats (K,) float32, row after row, and the row of each: (K,) int64.
    """
    ids, labels, lengths = batch["input_ids"], batch["labels"], batch["lengths"]
    ends = np.cumsum(lengths)
    starts = torch.from_numpy(ends - lengths).to(ids.device)
    rows = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)).to(ids.device)
    # The last token of a row predicts nothing.
    places = torch.from_numpy(np.delete(np.arange(len(rows)), ends - 1)).to(ids.device)
    wanted = labels[places + 1] != IGNORED
    places, targets = places[wanted], labels[places + 1][wanted]
    owners = rows[places]
    if attends_by_row(model):
        return _nats(model, ids[None], places, targets, **line_of(lengths, ids.device)), owners
    parts: list[Tensor] = []
    first = 0
    # Processes that share a model must all run its layers equally often.
    for count in [len(lengths)] if is_sharded(model) else _blocks(lengths):
        width = max(lengths[first : first + count])
        block = starts[first : first + count, None] + torch.arange(width, device=ids.device)
        inside = (owners >= first) & (owners < first + count)
        row = owners[inside]
        own = (row - first) * width + places[inside] - starts[row]
        # Behind the end of a row stands what follows in the batch.
        parts.append(_nats(model, ids[block.clamp(max=len(ids) - 1)], own, targets[inside]))
        first += count
    return torch.cat(parts), owners


def _blocks(lengths: Sequence[int]) -> list[int]:
    """Numbers of neighbouring rows that are padded to one width, without much padding."""
    counts: list[int] = []
    most = 0
    for length in lengths:
        if length > most:
            counts.append(0)
            most = max(SHORT, length + length // 4)
        counts[-1] += 1
    return counts


def _nats(model: Any, input_ids: Tensor, places: Tensor, targets: Tensor, **options: Any) -> Tensor:
    """Nats (K,) of the targets (K,) that follow places (K,) of the tokens (B, T), row after row.

    The output layer runs on those places alone: a hook on it picks their hidden states, so any
    scaling that the architecture applies to its logits still happens.
    """
    base = whole_base(model)
    rows = max(PART // base.config.get_text_config().vocab_size, 1)
    decoded: list[Any] = []
    put_off: list[Tensor] = []

    def pick(_module: object, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        own = args[0][:, -input_ids.shape[1] :]  # virtual tokens of a head stand in front
        hidden = own.flatten(0, 1).index_select(0, places)
        # See above: parts of one process may be more than those of another.
        if len(hidden) > rows and decoded and not is_sharded(model):
            put_off.append(hidden)
            hidden = hidden[:0]
        return (hidden[None],)

    hooks = [
        base.get_decoder().register_forward_hook(lambda _module, _args, out: decoded.append(out)),
        base.get_output_embeddings().register_forward_pre_hook(pick),
    ]
    try:
        logits = model(input_ids=input_ids, use_cache=False, **options).logits.flatten(0, 1)
    finally:
        for hook in hooks:
            hook.remove()
    if not put_off:
        return cross_entropy(logits, targets)
    behind = partial(_behind_decoder, base, decoded[0])
    parts = [
        checkpoint(behind, *part, use_reentrant=False)
        for part in zip(put_off[0].split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(parts)


def _behind_decoder(base: Any, decoded: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """Nats (N,) of tokens by the hidden states (N, H) before them.

    The model's own code runs, with what its decoder would give put in the decoder's place.
    """
    decoder = base.get_decoder()
    out = replace(decoded, last_hidden_state=hidden[None])
    own = decoder.__dict__.get("forward")
    decoder.forward = lambda *_, **__: out
    try:
        logits = base(input_ids=targets[None], use_cache=False).logits.flatten(0, 1)
    finally:
        if own is None:
            del decoder.forward
        else:
            decoder.forward = own
    return cross_entropy(logits, targets)
