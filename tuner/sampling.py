"""Random replies that depend on the example's seed, not on its neighbours in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import TopPLogitsWarper

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 1e-6  # replies are greedy well above it; below, logits would overflow


class SeededSampling:
    """Draws tokens from softmax(logits / temperature), cut to its top p.

    Adding Gumbel noise to logits and taking the largest draws from their softmax (Maddison et al.
    2014, arXiv:1411.0030). Each row has a noise generator of its own, always on the CPU: the same
    seed gives the same reply in any batch and on any device, up to the rounding of logits.

    Args:
        temperature: above 0; the smaller, the nearer to greedy.
        top_p: the smallest set of tokens with at least this probability is drawn from.
        seeds: one a row, by its number.
    """

    def __init__(self, temperature: float, top_p: float, seeds: Sequence[int]) -> None:
        self.temperature = max(temperature, LEAST)
        self.cut = TopPLogitsWarper(top_p) if top_p < 1 else None
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, rows: Sequence[int], logits: Tensor) -> Tensor:
        """Draw the next tokens (B,) of rows by their numbers, from logits (B, V)."""
        scores = logits.float() / self.temperature
        if self.cut is not None:
            scores = self.cut(cast("Any", None), cast("Any", scores))
        noise = torch.stack(
            [
                torch.empty(scores.shape[1]).exponential_(generator=self.generators[row])
                for row in rows
            ]
        )
        return (scores - noise.log().to(scores.device)).argmax(dim=-1)
