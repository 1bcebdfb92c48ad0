"""Nats of replies against plain transformers, one row at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.heads.test_contract import made
from tuner.backbone import load_tokenizer
from tuner.data.example import Example, Message
from tuner.data.prompts.chat import Chat
from tuner.evaluation.likelihood import encode_replies, row_nats

TALKS = [
    [("user", "where is my order?"), ("assistant", "It is on its way.")],
    [
        ("user", "hello"),
        ("assistant", "Hello! What can I do for you today?"),
        ("user", "I want my money back"),
        ("assistant", "Of course."),
    ],
    [("user", "thanks a lot"), ("assistant", "You are welcome. " * 9)],
]


def examples() -> list[Example]:
    return [
        Example(tuple(Message(role, text) for role, text in talk), group=str(number))  # pyright: ignore
        for number, talk in enumerate(TALKS)
    ]


@pytest.mark.parametrize("head", ["LoRA", "PromptTuning"])
def test_nats_of_the_last_reply_equal_those_of_one_row_alone(head: str, tiny_base: Path) -> None:
    tokenizer, prompt = load_tokenizer(str(tiny_base)), Chat()
    model: Any = made(head, tiny_base, "float32")[1].eval()
    rows = [row for row in encode_replies(examples(), prompt, tokenizer, 512) if row]
    assert len(rows) == 3
    found = row_nats(model, rows, batch_size=2)
    for example, row, (nats, tokens) in zip(examples(), rows, found, strict=True):
        ids, labels = (torch.from_numpy(x).long() for x in (row.input_ids, row.labels))
        with torch.inference_mode():
            logits = model(input_ids=ids[None]).logits[0, -len(ids) :]  # behind virtual tokens
        expected = functional.cross_entropy(logits[:-1], labels[1:], reduction="sum")
        assert nats == pytest.approx(float(expected), rel=1e-5)
        supervised = labels[labels != -100]
        assert len(supervised) == tokens
        assert (
            tokenizer.decode(supervised, skip_special_tokens=True).strip() == example.reply.strip()
        )


def test_rows_without_a_reply_or_beyond_the_context_have_none(tiny_base: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_base))
    silent = Example((Message("user", "hi"), Message("assistant", "")), group="x")
    long = examples()[2]
    assert encode_replies([silent, long], Chat(), tokenizer, 20) == [None, None]
