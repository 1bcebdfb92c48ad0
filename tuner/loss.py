"""The loss that is trained and validated on, with logits only where a label is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional as F

from tuner.data.encode import IGNORED

if TYPE_CHECKING:
    from torch import Tensor

    from tuner.data.batching import Batch


def summed_loss(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed next-token cross-entropy over the supervised tokens of a batch.

    Args:
        model: a causal language model of transformers, with or without a peft adapter.
        batch: padded on the right, so that no token with a label sees a padded one.

    Returns:
        The sum in nats (scalar float32) and the number of tokens (scalar int64).
    """
    logits, targets, wanted = supervised_logits(model, batch)
    return F.cross_entropy(logits, targets, reduction="sum"), wanted.sum()


def supervised_logits(model: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The logits that predict the K supervised tokens of a batch.

    The output layer runs on those positions alone: a hook on it picks their hidden states, so any
    scaling that the architecture applies to its logits still happens.

    Args:
        model: see `summed_loss`.
        batch: likewise.

    Returns:
        Logits (K, vocabulary) float32 and ids (K,) of the tokens, row after row, and where they
        are: (B, T - 1) bool, true at t for a supervised token at t + 1.
    """
    labels = batch["labels"]
    width = labels.shape[1]
    wanted = labels[:, 1:] != IGNORED

    def pick(_module: object, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        hidden = args[0][:, -width:][:, :-1]  # virtual tokens of a head stand in front
        return (hidden[wanted].unsqueeze(0),)

    base = model.get_base_model() if hasattr(model, "peft_config") else model
    hook = base.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits[0]
    finally:
        hook.remove()
    return logits.float(), labels[:, 1:][wanted], wanted
