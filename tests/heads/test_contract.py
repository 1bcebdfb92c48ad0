"""What every head promises; runs on each head that is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.nn import functional
from transformers import AutoModelForCausalLM

from tuner.backbone import load_base, load_tokenizer
from tuner.cli import main
from tuner.data.datamodule import ConversationData
from tuner.data.encode import encode_header
from tuner.data.example import Message
from tuner.data.prompts.chat import Chat
from tuner.data.sources.conversations import Conversations
from tuner.generate import generate, stop_ids
from tuner.heads import Head
from tuner.heads.lora import LoRA
from tuner.plugins import subclasses

HEADS = list(subclasses(Head))
FAST = ["--data.val_size=0", "--data.test_size=0", "--data.batch_size=8"]


def exported(run: Path, base: Path) -> Any:
    """The trained model as other tools load it."""
    if (run / "model").is_dir():
        return AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32).eval()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, str(run / "adapter")).eval()


def token_loss(model: Any, base: Path, rows: Path) -> float:
    """Nats a supervised token over all rows, one row at a time."""
    data = ConversationData(Conversations(str(rows)), val_size=0, test_size=0)
    total, tokens = 0.0, 0
    for row in data.prepare(load_tokenizer(str(base))).encoded["train"]:
        ids = torch.tensor(row.input_ids, dtype=torch.int64)[None]
        labels = torch.tensor(row.labels, dtype=torch.int64)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, :-1]
        total += float(functional.cross_entropy(logits, labels[1:], reduction="sum"))
        tokens += int((labels[1:] != -100).sum())
    return total / tokens


@pytest.mark.parametrize("head", HEADS)
def test_trains_what_it_should_in_float32(head: str, tiny_base: Path) -> None:
    base = load_base(str(tiny_base), dtype=torch.bfloat16)
    frozen = {id(p) for p in base.parameters()}
    model: Any = subclasses(Head)[head]().apply(base)
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert {p.dtype for _, p in trained} == {torch.float32}
    if head != "Full":
        assert not [n for n, p in trained if id(p) in frozen], "the base must stay frozen"
        for name, p in trained:  # a zero start on one side would hide the other side's gradient
            torch.nn.init.normal_(p, std=0.1)
            assert "lora" in name or head != "LoRA"
    ids = torch.arange(3, 23)[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=ids, labels=ids).loss.backward()
    assert not [n for n, p in trained if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("head", HEADS)
def test_learns_rows_by_heart_and_exports_them(
    head: str, fit: Callable[..., Path], tiny_base: Path, rows_file: Callable[..., Path]
) -> None:
    options = [f"--model.head={head}", "--optimizer.lr=0.01", "--trainer.max_epochs=250", *FAST]
    run = fit(*options, rows=8)
    assert token_loss(exported(run, tiny_base), tiny_base, rows_file(8)) < 0.1


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_gives_what_its_rows_give_alone(
    head: str, fit: Callable[..., Path], tiny_base: Path
) -> None:
    run = fit(f"--model.head={head}", "--optimizer.lr=0.01", "--trainer.max_epochs=3", *FAST)
    model, tokenizer = exported(run, tiny_base), load_tokenizer(str(tiny_base))
    texts = ["order", "where is my parcel please", "a b c d e f g h i j k", "refund? " * 9]
    headers = [encode_header([Message("user", text)], Chat(), tokenizer) for text in texts]
    options: dict[str, Any] = {"tokenizer": tokenizer, "stops": stop_ids(Chat(), tokenizer)}
    together = generate(model, headers, max_new_tokens=10, batch_size=4, **options)
    alone = generate(model, headers, max_new_tokens=10, batch_size=1, **options)
    assert [r.text for r in together] == [r.text for r in alone]
    assert [r.new_tokens for r in together] == [r.new_tokens for r in alone]


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_lora_trains_on_a_quantised_base(quantize: str, fit: Callable[..., Path]) -> None:
    run = fit(f"--model.quantize={quantize}", "--trainer.max_steps=2", *FAST)
    assert (run / "adapter" / "adapter_model.safetensors").is_file()


def test_full_refuses_a_quantised_base(
    command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command("fit", "--model.head=Full", "--model.quantize=nf4")) == 2
    assert "model.quantize" in capsys.readouterr().err


def test_unknown_layer_is_answered_with_the_nearest(tiny_base: Path) -> None:
    from tuner.errors import UserError

    with pytest.raises(UserError, match=r"Did you mean 'q_proj'"):
        LoRA(target_modules=["q_prj"]).apply(load_base(str(tiny_base)))


def test_dropout_is_on_in_training(fit: Callable[..., Path]) -> None:
    from safetensors.torch import load_file

    options = ["--trainer.max_epochs=2", "--optimizer.lr=0.01", *FAST]
    runs = [fit(*options, f"--model.head.dropout={rate}") for rate in (0, 0.5)]
    first, second = (load_file(run / "adapter" / "adapter_model.safetensors") for run in runs)
    assert any(not torch.equal(first[name], second[name]) for name in first)
