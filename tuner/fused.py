"""What stands between the matrix products of a block: norms, gated activations, casts.

Norms and activations are computed a few rows at a time, so that they need no temporary tensors of
the batch's size, and keep their inputs alone for the way back. The results are those of
transformers to the last bit.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import SiLUActivation

from tuner.devices import whole_base
from tuner.pieces import pieces

if TYPE_CHECKING:
    from torch import Tensor

SILU = (nn.SiLU, SiLUActivation)
GATED = ("gate_proj", "up_proj", "down_proj", "act_fn")


def fuse(model: Any) -> None:
    """Let the blocks of a model compute their norms and gated activations so, where they can.

    They can where a module computes what Llama's does (Zhang and Sennrich 2019,
    https://arxiv.org/abs/1910.07467; Shazeer 2020, https://arxiv.org/abs/2002.05202): its code is
    tried on a few numbers. A norm whose weight is trained stays as it is. LoRA leaves its inputs to
    autocast, where that is on: peft would take them to float32 first, and autocast back.

    Args:
        model: a causal language model of transformers, with or without a peft adapter.
    """
    from peft.tuners.lora import LoraLayer

    known: dict[type, Any] = {}
    for module in whole_base(model).modules():
        kind = type(module)
        if kind not in known:
            known[kind] = next((new for like, new in ALIKE if _is(kind, like)), None)
        if known[kind] and "forward" not in vars(module):
            module.forward = partial(known[kind], module)
        # DoRA takes the type of its norms from the inputs.
        elif isinstance(module, LoraLayer) and not module.lora_variant:
            module._cast_input_dtype = partial(_cast, module)  # pyright: ignore


def _is(kind: type, like: Any) -> bool:
    try:
        return like(kind)
    except Exception:  # its code needs something else than such a module has
        return False


def _is_norm(kind: Any) -> bool:
    states, weight = _numbers(2, 8), _numbers(8)
    found = kind.forward(SimpleNamespace(weight=weight, variance_epsilon=0.5), states)
    return torch.equal(found, _RMSNorm.apply(states, weight, 0.5))  # pyright: ignore


def _is_gated(kind: Any) -> bool:
    gate, up = _numbers(2, 2, 8)
    parts = (lambda _: gate, lambda _: up, lambda product: product, F.silu)
    found = kind.forward(SimpleNamespace(**dict(zip(GATED, parts, strict=True))), gate)
    return torch.equal(found, _SwiGLU.apply(gate, up))  # pyright: ignore


def _numbers(*shape: int) -> Tensor:
    own = torch.Generator().manual_seed(0)  # that of the run is left as it is
    return torch.randn(shape, generator=own, device="cpu").bfloat16()


def _norm(self: Any, hidden_states: Tensor) -> Tensor:
    if self.weight.requires_grad or not torch.is_grad_enabled():
        return type(self).forward(self, hidden_states)
    return _RMSNorm.apply(hidden_states, self.weight, self.variance_epsilon)  # pyright: ignore


def _gated(self: Any, x: Tensor) -> Tensor:
    if not torch.is_grad_enabled() or not isinstance(self.act_fn, SILU):
        return type(self).forward(self, x)
    return self.down_proj(_SwiGLU.apply(self.gate_proj(x), self.up_proj(x)))


def _cast(self: Any, x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if x is not None and torch.is_autocast_enabled(x.device.type):
        return x
    return type(self)._cast_input_dtype(self, x, dtype)


ALIKE = ((_is_norm, _norm), (_is_gated, _gated))


class _RMSNorm(torch.autograd.Function):
    """x / rms(x), rounded to the type of x, times the weight."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:  # pyright: ignore
        x = states.reshape(-1, states.shape[-1])
        found = torch.empty_like(x, dtype=torch.promote_types(x.dtype, weight.dtype))
        scale = torch.empty(len(x), 1, dtype=torch.float32, device=x.device)
        for rows in pieces(x):
            piece = x[rows].float()
            scale[rows] = torch.rsqrt(piece.pow(2).mean(-1, keepdim=True) + epsilon)
            torch.mul(weight, (piece * scale[rows]).to(x.dtype), out=found[rows])
        ctx.save_for_backward(states, weight, scale)
        return found.view_as(states)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        states, weight, scale = ctx.saved_tensors
        x, own = (one.reshape(-1, one.shape[-1]) for one in (states, grad))
        found = torch.empty_like(x)
        for rows in pieces(x):
            normed = x[rows].float() * scale[rows]
            piece = (own[rows] * weight).to(x.dtype).float()
            along = torch.linalg.vecdot(piece, normed)[:, None] / x.shape[1]
            found[rows] = piece.addcmul_(normed, along, value=-1).mul_(scale[rows])
        return found.view_as(states), None, None


class _SwiGLU(torch.autograd.Function):
    """silu(gate), rounded, times up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:  # pyright: ignore
        ctx.save_for_backward(gate, up)
        found = torch.empty_like(gate)
        flat = [one.reshape(-1, gate.shape[-1]) for one in (gate, up, found)]
        for rows in pieces(flat[0]):
            g, u, out = (one[rows] for one in flat)
            torch.mul(F.silu(g), u, out=out)
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore
        gate, up = ctx.saved_tensors
        found = torch.empty_like(gate), torch.empty_like(up)
        flat = [one.reshape(-1, gate.shape[-1]) for one in (grad, gate, up, *found)]
        for rows in pieces(flat[0]):
            own, g, u, to_gate, to_up = (one[rows] for one in flat)
            torch.mul(own, F.silu(g), out=to_up)
            torch.ops.aten.silu_backward(own * u, g, grad_input=to_gate)
        return found
