"""Cross-entropy that keeps nothing but the logits it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tuner.pieces import pieces

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The negative log-likelihood of each target, computed in float32.

    PyTorch's own keeps the logits in float32 and their log-softmax, and makes a gradient of both.

    Args:
        logits: (N, V) of any floating type.
        targets: (N,) int64, each below V.

    Returns:
        Nats (N,) float32.
    """
    return _CrossEntropy.apply(logits, targets)  # pyright: ignore[reportReturnType]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:  # pyright: ignore
        sums = torch.empty(len(logits), device=logits.device)
        for rows in pieces(logits):
            sums[rows] = logits[rows].float().logsumexp(-1)
        ctx.save_for_backward(logits, targets, sums)
        return sums - logits.gather(-1, targets[:, None])[:, 0].float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        """The probabilities, less 1 at the target."""
        logits, targets, sums = ctx.saved_tensors
        found = torch.empty_like(logits)
        for rows in pieces(logits):
            piece = torch.sub(logits[rows], sums[rows, None]).exp_()  # float32 or more
            piece.scatter_add_(-1, targets[rows, None], piece.new_full((len(piece), 1), -1.0))
            found[rows] = piece.mul_(grad[rows, None])
        return found, None
