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
        most = logits.amax(-1, keepdim=True).float()
        sums = torch.empty_like(most)
        for rows in pieces(logits):
            sums[rows] = torch.sub(logits[rows], most[rows]).exp_().sum(-1, keepdim=True).float()
        # Not their sum: beside a large logit, a small number of nats would be lost.
        logs = sums.log_()
        ctx.save_for_backward(logits, targets, most, logs)
        return (logs - (logits.gather(-1, targets[:, None]).float() - most))[:, 0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        """The probabilities, less 1 at the target."""
        logits, targets, most, logs = ctx.saved_tensors
        found = torch.empty_like(logits)
        for rows in pieces(logits):
            piece = torch.sub(logits[rows], most[rows]).sub_(logs[rows]).exp_()  # float32 or more
            piece.scatter_add_(-1, targets[rows, None], piece.new_full((len(piece), 1), -1.0))
            found[rows] = piece.mul_(grad[rows, None])
        return found, None
