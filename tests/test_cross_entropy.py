"""Nats and gradients beside PyTorch's own, whatever the number of rows at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tuner import pieces
from tuner.cross_entropy import cross_entropy


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_nats_and_gradients_are_those_of_pytorch(
    rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "CPU", rows * 11)
    logits = (torch.randn(7, 11, generator=torch.Generator().manual_seed(0)) * 5).to(dtype)
    targets, weights = torch.arange(7), torch.linspace(-1, 2, 7)
    found, expected = (logits.clone().requires_grad_() for _ in range(2))
    ours = cross_entropy(found, targets)
    theirs = F.cross_entropy(expected.float(), targets, reduction="none")
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for nats in (ours, theirs):
        (nats * weights).sum().backward()
    assert found.grad is not None
    assert found.grad.dtype == dtype
    torch.testing.assert_close(found.grad, expected.grad)
    assert torch.equal(found, logits), "what was given stays as it is"


def test_logits_that_are_far_apart_or_not_there_at_all() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [-torch.inf, 0.0, 0.0]], requires_grad=True)
    targets = torch.tensor([2, 1])
    nats = cross_entropy(logits, targets)
    torch.testing.assert_close(nats, F.cross_entropy(logits, targets, reduction="none"))
    nats.sum().backward()
    assert torch.isfinite(logits.grad).all()  # pyright: ignore
    few = torch.tensor([[3000.0, 2993.0, 2992.0]])
    exact = F.cross_entropy(few.double(), torch.tensor([0]), reduction="none")
    torch.testing.assert_close(
        cross_entropy(few, torch.tensor([0])).double(), exact, rtol=0, atol=1e-7
    )
    assert cross_entropy(torch.empty(0, 3), torch.empty(0, dtype=torch.int64)).shape == (0,)


def test_it_keeps_nothing_of_the_size_of_the_logits_but_the_logits() -> None:
    kept: list[torch.Tensor] = []
    logits = torch.randn(64, 512, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        cross_entropy(logits, torch.zeros(64, dtype=torch.int64))
    large = {one.data_ptr() for one in kept if one.numel() > 2 * len(logits)}
    assert large == {logits.data_ptr()}
