"""The loss that is trained and validated on: logits only where a label is, a part at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tuner.data.encode import IGNORED
from tuner.devices import is_sharded, whole_base

if TYPE_CHECKING:
    from torch import Tensor

    from tuner.data.batching import Batch

# Logits held at a time: 128 MiB in float32, and softmax and gradients take as much again. Where
# there are more, the output layer is computed once more going back, which is 2 % of a TinyLlama.
PART = 2**25


def summed_loss(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed next-token cross-entropy over the supervised tokens of a batch.

    Args:
        model: a causal language model of transformers, with or without a peft adapter.
        batch: padded on the right, so that no token with a label sees a padded one.

    Returns:
        The sum in nats (scalar float32) and the number of tokens (scalar int64).
    """
    nats, wanted = token_nats(model, batch)
    return nats.sum(), wanted.sum()


def token_nats(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """The negative log-likelihood of each of the K supervised tokens of a batch.

    The output layer runs on those positions alone: a hook on it picks their hidden states, so any
    scaling that the architecture applies to its logits still happens.

    Args:
        model: see `summed_loss`.
        batch: likewise.

    Returns:
        Nats (K,) float32, row after row, and where they are: (B, T - 1) bool, true at t for a
        supervised token at t + 1.
    """
    labels = batch["labels"]
    width = labels.shape[1]
    wanted = labels[:, 1:] != IGNORED
    targets = labels[:, 1:][wanted]
    base = whole_base(model)
    rows = max(PART // base.config.get_text_config().vocab_size, 1)
    decoded: list[Any] = []
    put_off: list[Tensor] = []

    def pick(_module: object, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        hidden = args[0][:, -width:][:, :-1][wanted]  # virtual tokens of a head stand in front
        # Processes that share a model must all run its layers equally often.
        if len(hidden) > rows and decoded and not is_sharded(model):
            put_off.append(hidden)
            hidden = hidden[:0]
        return (hidden[None],)

    hooks = [
        base.get_decoder().register_forward_hook(lambda _module, _args, out: decoded.append(out)),
        base.get_output_embeddings().register_forward_pre_hook(pick),
    ]
    try:
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits.flatten(0, 1)
    finally:
        for hook in hooks:
            hook.remove()
    if not put_off:
        return _nats(logits, targets), wanted
    behind = partial(_behind_decoder, base, decoded[0])
    parts = [
        checkpoint(behind, *part, use_reentrant=False)
        for part in zip(put_off[0].split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(parts), wanted


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), targets, reduction="none")


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
    return _nats(logits, targets)
