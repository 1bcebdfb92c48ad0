"""What an export says beside its weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tuner.backbone import load_base, load_tokenizer


@pytest.mark.parametrize(("head", "folder"), [("LoRA", "adapter"), ("Full", "model")])
def test_the_code_on_the_card_loads_the_export(
    head: str,
    folder: str,
    fit: Callable[..., Path],
    tiny_base: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = fit(f"--model.head={head}", "--trainer.max_steps=3", "--optimizer.lr=0.05")
    card = (run / folder / "README.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^ {4}(.*)$", card, re.MULTILINE))
    monkeypatch.chdir(run)
    names: dict[str, object] = {}
    exec(code, names)
    model, tokenizer = names["model"], names["tokenizer"]
    assert isinstance(model, torch.nn.Module)
    assert callable(tokenizer)
    ids = tokenizer("where is my order", return_tensors="pt")["input_ids"]
    own = load_tokenizer(str(tiny_base))("where is my order", return_tensors="pt")["input_ids"]
    assert torch.equal(ids, own)
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        plain = load_base(str(tiny_base), dtype=torch.float32)(input_ids=ids).logits
    assert logits.dtype == torch.float32
    assert not torch.allclose(logits, plain), "trained weights are in it"
