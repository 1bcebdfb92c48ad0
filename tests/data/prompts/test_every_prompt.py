"""What every rendering promises; runs on each one that is found."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tuner.backbone import load_tokenizer
from tuner.data.encode import encode, encode_header
from tuner.data.example import Message
from tuner.data.prompts.base import Prompt
from tuner.data.prompts.chat import Chat
from tuner.data.prompts.customer_agent import CustomerAgent
from tuner.errors import UserError
from tuner.generate import generate, stop_ids
from tuner.plugins import settings_of, subclasses

SHIPPED = [kind() for kind in subclasses(Prompt).values() if kind.__module__.startswith("tuner.")]
every_prompt = pytest.mark.parametrize("prompt", SHIPPED, ids=lambda p: type(p).__name__)
TURNS = [
    Message("user", "This is urgent!"),
    Message("assistant", "We hurry."),
    Message("user", "Sure?"),
    Message("assistant", "Yes > no."),
]


def rebuilt(described: dict[str, Any]) -> Prompt:
    module, name = described["class_path"].rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**described["init_args"])


@every_prompt
def test_training_and_generation_read_the_same(prompt: Prompt, tokenizer: Any) -> None:
    prompt.check(tokenizer)
    row = encode([TURNS], prompt, tokenizer)[0]
    ids = row.input_ids.tolist()
    for upto in (1, 3):
        header = encode_header(TURNS[:upto], prompt, tokenizer)
        assert ids[: len(header)] == header
        assert row.labels[len(header)] == ids[len(header)]


@every_prompt
def test_generation_stops_at_what_ends_a_reply(prompt: Prompt, tokenizer: Any) -> None:
    (stop,) = stop_ids(prompt, tokenizer)
    labels = encode([TURNS], prompt, tokenizer)[0].labels.tolist()
    assert labels.count(stop) == 2


@every_prompt
def test_a_rendering_can_be_made_again_from_its_description(prompt: Prompt, pico: Any) -> None:
    described = json.loads(json.dumps(settings_of(prompt)))
    again = rebuilt(described)
    assert type(again) is type(prompt)
    assert again.render(TURNS, pico) == prompt.render(TURNS, pico)


def test_a_description_holds_the_arguments(pico: Any) -> None:
    for prompt in (Chat(system="Be kind.", supervise="all"), CustomerAgent(prefix=["priority"])):
        plain = type(prompt)()
        again = rebuilt(json.loads(json.dumps(settings_of(prompt))))
        assert again.render(TURNS, pico) == prompt.render(TURNS, pico)
        assert again.render(TURNS, pico) != plain.render(TURNS, pico)


def test_an_argument_that_is_not_kept_is_named() -> None:
    class _Forgets(Chat):
        def __init__(self, tone: str = "dry") -> None:
            super().__init__()

    with pytest.raises(UserError, match=r"_Forgets must keep .*self\.tone"):
        settings_of(_Forgets())


def test_an_adapter_says_its_rendering_and_has_learned_to_stop(
    fit: Callable[..., Path], tiny_base: Path, rows_file: Callable[..., Path]
) -> None:
    run = fit(
        "--data.prompt=CustomerAgent",
        "--data.prompt.prefix=[priority, sentiment]",
        "--data.val_size=0",
        "--data.test_size=0",
        "--optimizer.lr=0.01",
        "--trainer.max_epochs=120",
        rows=4,
    )
    prompt = rebuilt(json.loads((run / "adapter" / "prompt.json").read_text("utf-8")))
    assert isinstance(prompt, CustomerAgent)
    assert prompt.prefix == ["priority", "sentiment"]
    tokenizer = load_tokenizer(str(run / "adapter"))
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(run / "adapter")).eval()
    rows = [json.loads(line) for line in rows_file(4).read_text("utf-8").splitlines()]
    replies = generate(
        model,
        [encode_header([Message("user", r["prompt"])], prompt, tokenizer) for r in rows],
        tokenizer=tokenizer,
        stops=stop_ids(prompt, tokenizer),
        max_new_tokens=100,
        batch_size=4,
    )
    assert [reply.text for reply in replies] == [row["completion"] for row in rows]
    assert {reply.stop_reason for reply in replies} == {"eos"}
