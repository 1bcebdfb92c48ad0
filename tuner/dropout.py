"""Dropout that is quick on a CPU, and keeps one byte an element for the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from typing_extensions import override

if TYPE_CHECKING:
    from torch import Tensor

DRAWS = 4  # elements that share a random number of 64 bits


class Dropout(nn.Dropout):
    """`nn.Dropout` with a faster draw on a CPU; elsewhere it is the same.

    There, PyTorch draws one element at a time unless the CPU is of one maker, and keeps what was
    drawn in the input's type. Here 16 bits decide about an element, so a share of 1/65,536 is the
    finest; the mean is kept for the share that is drawn.
    """

    @override
    def forward(self, input: Tensor) -> Tensor:
        if not self.training or input.device.type != "cpu":
            return super().forward(input)
        dropped = min(round(self.p * 2**16), 2**16 - 1)
        return cast("Tensor", _Dropped.apply(input, dropped))


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        words = torch.empty(-(-x.numel() // DRAWS), dtype=torch.int64).random_(-(2**63), None)
        drawn = words.view(torch.int16)[: x.numel()].view(x.shape)
        # Numbers, since a product with bools takes several times as long.
        kept = torch.empty(x.shape, dtype=torch.uint8)
        torch.ge(drawn, dropped - 2**15, out=kept)
        ctx.save_for_backward(kept)
        ctx.scale = 2**16 / (2**16 - dropped)
        return kept.to(x.dtype).mul_(x).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (kept,) = ctx.saved_tensors
        return kept.to(grads[0].dtype).mul_(grads[0]).mul_(ctx.scale), None


def use_quick_dropout(model: nn.Module) -> None:
    """Put `Dropout` in the place of each dropout layer of an adapter that leaves something out."""
    for parent in list(model.modules()):
        if isinstance(parent, nn.ModuleDict):  # where peft keeps the layers of its adapters
            for name, layer in list(parent.items()):
                if type(layer) is nn.Dropout and layer.p > 0:
                    parent[name] = Dropout(layer.p)
