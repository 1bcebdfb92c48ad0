"""Waiting times, with a model that takes a known time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.heads.test_contract import made
from tuner.backbone import load_base, load_tokenizer
from tuner.evaluation.latency import measure_latency, merged
from tuner.evaluation.onednn import use_onednn
from tuner.heads.lora import LoRA

NEVER = 2**20  # no token has this id


def test_first_token_and_pace_are_told_apart(tiny_base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    prompts: list[int] = []

    def wait(_module: object, _args: object, given: dict[str, Any]) -> None:
        rows, width = given["input_ids"].shape
        if width > 1:
            prompts.append(rows)
        time.sleep(0.04 if width > 1 else 0.005)

    model.register_forward_pre_hook(wait, with_kwargs=True)
    found = measure_latency(
        model,
        [[3, 4, 5]] * 3,
        tokenizer=load_tokenizer(str(tiny_base)),
        stops=[NEVER],
        max_new_tokens=500,
    )
    assert prompts == [1] * 4, "one to warm up, then each prompt alone"
    assert (found["prompts"], found["batch_size"], found["max_new_tokens"]) == (3, 1, 64)
    assert 0.04 <= found["first_token_p50"] <= found["first_token_p95"] < found["p50"]
    assert found["p50"] >= 0.04 + 63 * 0.005
    assert 0 < found["new_tokens_per_second"] <= 200


@pytest.mark.parametrize(
    ("head", "kind", "folds"),
    [
        ("LoRA", "float32", True),
        ("IA3", "float32", True),
        ("LoRA", "nf4", False),
        ("PromptTuning", "float32", False),
        ("PrefixTuning", "float32", False),
        ("Full", "float32", False),
    ],
)
def test_an_adapter_folded_into_the_weights_answers_the_same(
    head: str, kind: str, folds: bool, tiny_base: Path
) -> None:
    model: Any = made(head, tiny_base, kind)[1].eval()
    torch.manual_seed(0)
    for weight in filter(lambda p: p.requires_grad, model.parameters()):
        weight.data += 0.05 * torch.randn_like(weight)  # as if trained
    ids = torch.arange(3, 23)[None]
    with torch.inference_mode():
        before = model(input_ids=ids).logits
    whole = merged(model)
    assert (whole is not None) == folds
    if whole is not None:
        assert not any("lora" in name for name, _ in whole.named_modules())
        with torch.inference_mode():
            assert torch.allclose(whole(input_ids=ids).logits, before, atol=1e-3)


def test_an_output_layer_that_is_the_embeddings_is_not_folded_in(
    make_base: Callable[..., Path],
) -> None:
    base = load_base(str(make_base(tie_word_embeddings=True)))
    model = LoRA(target_modules=["q_proj", "lm_head"]).apply(base)
    assert merged(model.eval()) is None


def test_onednn_computes_what_the_layers_do(tiny_base: Path) -> None:
    model = load_base(str(tiny_base))
    ids = torch.arange(3, 23)[None]
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        fast = use_onednn(model)
        assert "forward" in vars(fast.lm_head)
        assert torch.allclose(fast(input_ids=ids).logits, before, atol=1e-4)
    fast.get_input_embeddings().weight.requires_grad_(True)
    fast(input_ids=ids).logits.sum().backward()  # gradients take the usual way
    half = use_onednn(load_base(str(tiny_base), dtype=torch.bfloat16))
    assert "forward" not in vars(half.lm_head)
