"""Dropout of adapters on a CPU leaves out as many as it should, and the same ones going back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM

from tuner.dropout import Dropout
from tuner.heads.lora import LoRA


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9, 0.999999])
def test_leaves_out_its_share_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(0)
    count = 400_003  # no multiple of what shares a draw
    out = Dropout(share)(torch.ones(count))
    kept = int((out != 0).sum())
    spread = (count * share * (1 - share)) ** 0.5
    assert abs(kept - count * (1 - share)) < 5 * spread + count / 2**16
    if kept:
        scale = float(out.max())
        assert scale == pytest.approx(1 / (1 - share), rel=1e-3) or share > 0.99
        assert set(out.unique().tolist()) <= {0.0, scale}
        assert float(out.mean()) == pytest.approx(1, abs=5 * spread / count / (1 - share))


def test_neighbours_are_independent() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(100_000, 8)) != 0).double()
    both = torch.corrcoef(kept.T) - torch.eye(8)
    assert float(both.abs().max()) < 5 / 100_000**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_go_where_values_went(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 7, 9, dtype=dtype).transpose(0, 1).requires_grad_()
    out = Dropout(0.5)(x)
    assert out.dtype == dtype
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, out)
    assert 0 < int((out == 0).sum()) < x.numel()


def test_draws_by_the_seed_and_nothing_in_evaluation() -> None:
    layer, x = Dropout(0.5), torch.randn(100)
    drawn = list[torch.Tensor]()
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(layer(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert layer.eval()(x) is x


def test_what_is_computed_twice_is_drawn_once() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, requires_grad=True)
    out: Any = checkpoint(Dropout(0.5), x, use_reentrant=False)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, out)


def test_a_head_has_it_where_something_is_left_out() -> None:
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )

    def kinds(dropout: float) -> set[type[nn.Module]]:
        head = LoRA(dropout=dropout, target_modules=["q_proj"])
        model = head.apply(LlamaForCausalLM(config).requires_grad_(False))
        return {type(m) for n, m in model.named_modules() if "lora_dropout" in n}

    assert Dropout in kinds(0.1)
    assert nn.Dropout not in kinds(0.1)
    assert Dropout not in kinds(0.0)


def test_keeps_a_byte_an_element() -> None:
    kept = list[torch.Tensor]()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        Dropout(0.1)(torch.randn(1000, requires_grad=True))
    assert sum(t.nbytes for t in kept) == 1000
