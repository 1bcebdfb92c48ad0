"""Nats of general text against plain transformers, one text at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.heads.test_contract import made
from tuner.backbone import load_base, load_tokenizer
from tuner.errors import UserError
from tuner.evaluation import forgetting
from tuner.evaluation.forgetting import general_texts, text_nll
from tuner.weights import PICO

TEXTS = [
    "Paper was made in China about two thousand years ago, from bark and old fishing nets.",
    "Snow is quiet.",
    "x",
    "",
    "Salt does more than make food salty. " * 4,
    "Four friends share a bill of 92 pounds.",
]


def alone(model: Any, tokenizer: Any, text: str) -> tuple[float, int]:
    ids = torch.tensor([tokenizer(text)["input_ids"]], dtype=torch.int64)
    if ids.shape[1] < 2:
        return 0.0, 0
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, -ids.shape[1] : -1]  # behind virtual tokens
    return float(functional.cross_entropy(logits, ids[0, 1:], reduction="sum")), ids.shape[1] - 1


@pytest.mark.parametrize("head", ["none", "LoRA", "PromptTuning", "PrefixTuning"])
def test_nats_equal_those_of_plain_transformers(head: str, tiny_base: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_base))
    model: Any = (
        load_base(str(tiny_base)) if head == "none" else made(head, tiny_base, "float32")[1]
    )
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.eval()
    expected = [alone(model, tokenizer, text) for text in TEXTS]
    for batch_size in (1, 3, 64):
        found = text_nll(model, tokenizer, TEXTS, batch_size)
        assert [n for _, n in found] == [n for _, n in expected]
        assert [v for v, _ in found] == pytest.approx([v for v, _ in expected], rel=1e-5)
    assert text_nll(model, tokenizer, [], 4) == []


def test_a_base_model_reads_its_own_language_best() -> None:
    tokenizer, model = load_tokenizer(str(PICO)), load_base(str(PICO), dtype=torch.float32)
    texts = [text.text for text in general_texts()]
    assert len(texts) == 60
    assert max(len(tokenizer(text)["input_ids"]) for text in texts) < 200
    some = texts[::10]
    shuffled = [" ".join(sorted(text.split())) for text in some]
    read, mixed = (text_nll(model, tokenizer, those, 6) for those in (some, shuffled))
    assert all(one < two for (one, _), (two, _) in zip(read, mixed, strict=True))


def test_a_spoilt_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "general.jsonl"
    monkeypatch.setattr(forgetting, "GENERAL", file)
    for content in (None, "{", '{"id": "general-01"}', "[]"):
        if content is not None:
            file.write_text(content)
        with pytest.raises(UserError, match=r"general\.jsonl"):
            general_texts()
