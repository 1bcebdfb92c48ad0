"""The loss in parts is the loss as a whole, for every architecture that does more to its logits."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch.nn import functional as F
from transformers import (
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen3MoeConfig,
)
from transformers.models.auto import AutoModelForCausalLM

from tuner import attention, loss
from tuner.attention import attend_by_row
from tuner.data.batching import join
from tuner.data.encode import Encoded

VOCABULARY = 48
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 24,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": LlamaConfig(**SMALL),
    "tied": LlamaConfig(**SMALL, tie_word_embeddings=True),
    "mistral": MistralConfig(**SMALL, sliding_window=4),
    "gemma2": Gemma2Config(**SMALL, final_logit_softcapping=3.0),
    "granite": GraniteConfig(**SMALL, logits_scaling=4.0),
    "cohere": CohereConfig(**SMALL, logit_scale=0.2),
    "moe": Qwen3MoeConfig(**SMALL, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=64),
    "opt": OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        word_embed_proj_dim=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=24,
        dropout=0.0,
        max_position_embeddings=64,
        pad_token_id=0,
    ),
}


def model_of(name: str, kind: str = "full") -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(deepcopy(CONFIGS[name]), dtype=torch.float32).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if kind == "lora":
        target = ["q_proj", "lm_head"]
        config = LoraConfig(target_modules=target, init_lora_weights=False)
        return get_peft_model(model, config)
    if kind == "prompt":
        settings = PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
        return get_peft_model(model, settings)
    return model


def batch() -> Any:
    draw = torch.Generator().manual_seed(1)
    rows = list[Encoded]()
    for number, length in enumerate((5, 9, 9, 7)):
        ids = torch.randint(1, VOCABULARY, (length,), generator=draw).numpy()
        labels = ids.copy()
        labels[: 1 + number] = -100
        rows.append(Encoded(ids, labels, number))
    return join(rows)


def found(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    torch.manual_seed(5)
    total, targets = loss.summed_loss(model, batch())
    assert int(targets) == 20
    total.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return total.detach(), grads


@pytest.mark.parametrize("unit", [None, 1, 4])
@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_are_those_of_one_row_at_a_time(
    name: str, unit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In padded blocks, by row, and by row with attention in blocks of a few lengths."""
    monkeypatch.setattr(loss, "PART", 4 * VOCABULARY)
    monkeypatch.setattr(loss, "SHORT", 5)
    monkeypatch.setattr(attention, "_unit", lambda _: unit)
    model = model_of(name)
    # Gemma 2's softcapping takes an attention of its own, but for older releases of the library.
    takes = model.config._attn_implementation == "sdpa"
    assert takes or name == "gemma2"
    assert unit is None or attend_by_row(model) == takes
    total, grads = found(model)
    model.zero_grad()
    expected = torch.zeros(())
    data = batch()
    rows = (data[key].split(data["lengths"]) for key in ("input_ids", "labels"))
    for ids, labels in zip(*rows, strict=True):
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
        expected = expected + F.cross_entropy(logits, labels[1:], reduction="sum")
    expected.backward()
    torch.testing.assert_close(total, expected.detach(), rtol=1e-5, atol=1e-5)
    for key, weight in model.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(grads[key], weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["lora", "prompt"])
def test_parts_are_the_whole_for_adapters(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama", kind)
    whole = found(model)
    monkeypatch.setattr(loss, "PART", 4 * VOCABULARY)
    parts = found(model)
    torch.testing.assert_close(parts[0], whole[0])
    assert parts[1].keys() == whole[1].keys()
    for key, gradient in whole[1].items():
        torch.testing.assert_close(parts[1][key], gradient, rtol=1e-4, atol=1e-5)


def test_a_batch_without_labels_has_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "PART", VOCABULARY)
    total, targets = loss.summed_loss(model_of("llama"), join([]))
    total.backward()
    assert (float(total.detach()), int(targets)) == (0.0, 0)


def test_logits_are_held_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "PART", 4 * VOCABULARY)
    model = model_of("llama")
    seen = list[int]()
    model.lm_head.register_forward_hook(lambda _m, _a, out: seen.append(out.shape[1]))
    loss.summed_loss(model, batch())[0].backward()
    assert max(seen) == 4
    assert sum(seen) == 2 * 20  # forward, and once more going back
    assert "forward" not in model.model.__dict__  # the decoder is its own again


def test_rows_that_have_to_be_padded_are_padded_little(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = sorted(torch.randint(2, 1000, (64,), generator=torch.Generator().manual_seed(0)))
    rows = [int(length) for length in lengths]
    counts = loss._blocks(rows)  # pyright: ignore[reportPrivateUsage]
    assert sum(counts) == len(rows)
    start = 0
    for count in counts:
        block = rows[start : start + count]
        assert max(block) <= max(loss.SHORT, 1.25 * min(block))
        start += count
    assert len(counts) < 16
