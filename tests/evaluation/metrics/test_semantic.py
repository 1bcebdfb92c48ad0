"""Semantic similarity with a small random model: pooling, order, batches, and set-up errors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.conftest import pair, pairs
from tuner.errors import UserError
from tuner.evaluation.metrics.semantic import VARIABLE, Semantic


@pytest.fixture
def embedder(make_base: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    base = make_base()
    monkeypatch.setenv(VARIABLE, str(base))
    return base


def cosine(base: Path, a: str, b: str) -> float:
    """The same for one pair, without padding."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModel.from_pretrained(base, dtype=torch.float32).eval()
    with torch.inference_mode():
        one, other = (
            model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
            for text in (a, b)
        )
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def test_equals_one_pair_at_a_time(embedder: Path) -> None:
    texts = ["Where is it?", "Your parcel is on its way and arrives tomorrow.", "No."]
    found = Semantic().score(pairs(texts, texts[1:] + texts[:1]))["semantic"].rows
    expected = [cosine(embedder, texts[i], texts[(i + 1) % 3]) for i in range(3)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(expected) < 0.99


def test_batches_make_no_difference(embedder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = [f"order {number} " * (number % 7 + 1) for number in range(40)]
    rows = pairs(replies, ["Where is my order?"] * 40)
    together = Semantic().score(rows)["semantic"].rows
    monkeypatch.setattr("tuner.evaluation.metrics.semantic._BATCH", 1)
    assert Semantic().score(rows)["semantic"].rows == pytest.approx(together, abs=1e-5)
    assert embedder.is_dir()


@pytest.mark.usefixtures("embedder")
def test_equal_is_1_blank_is_0_and_a_blank_reference_is_nothing() -> None:
    found = Semantic().score(pairs(["a b", "", "\ud800", "a"], ["a b", "a b", "?", " "]))
    assert found["semantic"].rows[:3] == pytest.approx([1, 0, 1])
    assert np.isnan(found["semantic"].rows[3])


def test_signature_names_model_and_weights(embedder: Path) -> None:
    from tuner.weights import weights_hash

    text = Semantic().signatures()["semantic"]
    assert f"model:{embedder}|weights:{(weights_hash(str(embedder)) or '')[:12]}" in text


def test_without_a_model_it_does_not_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    rows = [pair("a", "b")]
    assert not Semantic().applies(rows)
    assert "model:not set" in Semantic().signatures()["semantic"]
    with pytest.raises(UserError, match=f"set {VARIABLE} to a folder or a hub id"):
        Semantic().score(rows)


def test_a_model_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert Semantic().applies([])
    with pytest.raises(UserError, match=f"{VARIABLE}: cannot load the embedding model"):
        Semantic().score([pair("a", "b")])
