"""Norms, gated activations and casts of a block beside those of transformers and peft."""

from __future__ import annotations

import pickle
from copy import deepcopy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from tuner import pieces
from tuner.fused import fuse

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Architecture, and what of it computes as Llama's does.
KINDS = {
    "llama": {"norm", "gated"},
    "mistral": {"norm", "gated"},
    "qwen3": {"norm", "gated"},
    "phi3": {"norm"},  # gate and up are one layer
    "gemma2": {"gated"},  # but GELU, so it stays; 1 is added to the weight of a norm
    "olmo2": {"gated"},  # the weight comes before rounding
    "gpt2": set[str](),
}
IDS = torch.arange(1, 41).view(2, 20)


def small(kind: str, **more: object) -> Any:
    own = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 64}
    settings: dict[str, Any] = own if kind == "gpt2" else SMALL | more
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight), alpha=0.1)
    return model.requires_grad_(False)


def adapted(kind: str, *, dora: bool = False) -> Any:
    torch.manual_seed(1)
    config = LoraConfig(target_modules="all-linear", r=4, init_lora_weights=False, use_dora=dora)
    return get_peft_model(small(kind), config).eval()  # without dropout


def step(model: Any, *, autocast: bool = False) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss of a step and its gradients."""
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(input_ids=IDS, labels=IDS).loss
    own = [p for p in model.parameters() if p.requires_grad]
    return loss.detach(), list(torch.autograd.grad(loss, own))


def fused(model: Any) -> set[str]:
    return {m.forward.func.__name__[1:] for m in model.modules() if "forward" in vars(m)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [3, 1000])
def test_loss_is_the_same_bits_and_gradients_the_same(
    kind: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "CPU", rows * 32)
    plain, ours = adapted(kind), adapted(kind)
    fuse(ours)
    assert fused(ours) == KINDS[kind]
    expected, own = step(plain), step(ours)
    assert torch.equal(expected[0], own[0])
    torch.testing.assert_close(own[1], expected[1], rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(plain(input_ids=IDS).logits, ours(input_ids=IDS).logits)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast(dtype: torch.dtype, dora: bool) -> None:
    plain, ours = (adapted("llama", dora=dora) for _ in range(2))
    for model in (plain, ours):
        model.get_base_model().model.to(dtype)
        for name, weight in model.named_parameters():
            weight.data = weight.data.float() if "lora" in name else weight.data
    fuse(ours)
    (loss, expected), (own_loss, own) = (step(model, autocast=True) for model in (plain, ours))
    assert torch.equal(loss, own_loss)
    for a, b in zip(own, expected, strict=True):
        assert float((a - b).norm() / b.norm()) < 0.02  # two roundings to 8 bits


def test_in_double_precision() -> None:
    plain, ours = (adapted("llama").double() for _ in range(2))
    fuse(ours)
    expected, own = step(plain), step(ours)
    assert torch.equal(expected[0], own[0])
    torch.testing.assert_close(own[1], expected[1], rtol=1e-5, atol=1e-7)


def test_lora_casts_where_autocast_is_off() -> None:
    model = adapted("llama")
    model.get_base_model().to(torch.bfloat16)
    for name, weight in model.named_parameters():
        weight.data = weight.data.float() if "lora" in name else weight.data
    expected = model(input_ids=IDS).logits
    fuse(model)
    assert torch.equal(model(input_ids=IDS).logits, expected)


def test_a_norm_that_is_trained_and_another_activation_stay_as_they_are() -> None:
    plain, ours = small("llama", hidden_act="gelu"), small("llama", hidden_act="gelu")
    for model in (plain, ours):
        for module in model.modules():
            if type(module).__name__ == "LlamaRMSNorm":
                module.requires_grad_(True)
    fuse(ours)
    expected, own = step(plain), step(ours)
    assert len(own[1]) == 5
    assert all(map(torch.equal, own[1], expected[1]))


def test_copies_work_on_their_own_weights_and_the_runs_numbers_are_not_drawn() -> None:
    model = adapted("llama")
    state = torch.random.get_rng_state()
    fuse(model)
    assert torch.equal(torch.random.get_rng_state(), state)
    before = step(model)[0]
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(step(copy)[0], before)
        for name, weight in copy.named_parameters():
            if "norm" in name or "gate_proj.base" in name:
                weight.data.zero_()
        assert torch.equal(step(model)[0], before)
        assert not torch.equal(step(copy)[0], before)


def test_it_keeps_inputs_alone() -> None:
    def kept(module: Any) -> int:
        """Bytes that a module keeps for the way back, beside its input and weights."""
        own = {p.untyped_storage().data_ptr() for p in module.parameters()}
        x = torch.randn(1, 20, 32).bfloat16().requires_grad_()
        own.add(x.untyped_storage().data_ptr())
        found: dict[int, torch.Tensor] = {}

        def keep(t: torch.Tensor) -> torch.Tensor:
            return found.setdefault(t.untyped_storage().data_ptr(), t)

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            module(x)
        return sum(t.untyped_storage().nbytes() for at, t in found.items() if at not in own)

    model = small("llama").bfloat16()
    block = model.model.layers[0]
    before = kept(block.input_layernorm), kept(block.mlp)
    fuse(model)
    after = kept(block.input_layernorm), kept(block.mlp)
    assert after == (20 * 4, 2 * 20 * 48 * 2), "a number for each token; gate and up"
    assert before == (20 * 4 + 20 * 32 * 4, 3 * 20 * 48 * 2)
