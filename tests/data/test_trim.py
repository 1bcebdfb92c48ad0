"""Overlong rows: what goes first, and that a reply never does."""

from __future__ import annotations

from typing import Any

import pytest

from tuner.data import clean
from tuner.data.curation import Curation
from tuner.data.datamodule import ConversationData
from tuner.data.example import Example, Message
from tuner.data.sources.conversations import Conversations
from tuner.data.trim import trim
from tuner.errors import UserError

TALK = Example(
    (
        Message("system", "Be brief."),
        Message("user", "one two three"),
        Message("assistant", "four"),
        Message("user", "five six"),
        Message("assistant", "seven"),
        Message("user", "alpha beta gamma delta"),
        Message("assistant", "the reply"),
    ),
    group="g",
)


def words(messages: Any) -> int:
    return sum(len(m.content.split()) for m in messages)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (12, ["Be brief.", "five six", "seven", "alpha beta gamma delta", "the reply"]),
        (8, ["Be brief.", "alpha beta gamma delta", "the reply"]),
        (6, ["Be brief.", "gamma delta", "the reply"]),
        (5, ["Be brief.", "delta", "the reply"]),
    ],
)
def test_oldest_turns_go_first_then_the_start_of_the_question(
    limit: int, expected: list[str]
) -> None:
    shorter = trim(TALK, limit, words)
    assert shorter is not None
    assert [m.content for m in shorter.messages] == expected
    assert shorter.group == "g"


def test_a_reply_that_is_too_long_alone_is_not_cut() -> None:
    assert trim(TALK, 4, words) is None


ROWS = [{"prompt": f"q{n} " + "context " * 20 * n, "completion": f"a{n}"} for n in range(30)]


def prepare(write: Any, tokenizer: Any, overlong: Any) -> Any:
    data = ConversationData(
        Conversations(write("a.jsonl", ROWS)), max_length=120, val_size=0, test_size=0,
        curation=Curation(overlong=overlong, near_duplicates="keep"),
    )  # fmt: skip
    return data.prepare(tokenizer)


def test_trimmed_rows_fit_and_end_with_their_whole_reply(write: Any, tokenizer: Any) -> None:
    found = prepare(write, tokenizer, "trim")
    assert len(found.splits["train"]) == 30
    trimmed = [e for e in found.splits["train"] if e.meta.get("trimmed")]
    assert len(trimmed) == found.account["truncated"] > 20
    assert found.encoded["train"].lengths.max() <= 120
    for example, item in zip(found.splits["train"], found.encoded["train"], strict=True):
        learned = [t for t in item.labels.tolist() if t != -100]
        assert tokenizer.decode(learned) == f"{example.reply}</s>"
    length = next(s for s in found.account["steps"] if s["step"] == "length")
    assert (length["dropped"], length["changed"]) == (0, len(trimmed))


def test_the_other_policies(write: Any, pico: Any) -> None:
    dropped = prepare(write, pico, "drop")
    assert dropped.dropped["longer_than_max_length"] == 30 - len(dropped.splits["train"]) > 20
    with pytest.raises(UserError, match=r"data.max_length: .*a\.jsonl:\d+ has \d+ tokens"):
        prepare(write, pico, "error")


@pytest.mark.parametrize("overlong", ["drop", "trim", "error"])
def test_rows_too_long_by_far_are_not_tokenised_whole(
    overlong: Any, write: Any, pico: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    whole = clean.encode

    def counted(rows: Any, *more: Any) -> Any:
        lengths.extend(sum(len(m.content) for m in row) for row in rows)
        return whole(rows, *more)

    monkeypatch.setattr(clean, "encode", counted)
    turns = [
        {"role": "user" if n % 2 == 0 else "assistant", "content": f"{n}"} for n in range(6000)
    ]
    rows: list[Any] = [{"prompt": f"question {n}", "completion": "a"} for n in range(20)]
    many = [{"messages": turns}, {"prompt": "x " * 2_000_000, "completion": "Fine."}]
    data = ConversationData(
        Conversations(write("a.jsonl", [*rows, *many])),
        max_length=64,
        val_size=0,
        test_size=0,
        curation=Curation(overlong=overlong),
    )
    if overlong == "error":
        with pytest.raises(UserError, match=r"a\.jsonl:21 has 6,000 turns and .* characters"):
            data.prepare(pico)
        return
    found = data.prepare(pico)
    assert max(lengths) < 64 * 4 * 64
    trimmed = 2 if overlong == "trim" else 0
    assert found.account["truncated"] == trimmed
    assert len(found.splits["train"]) == 20 + trimmed
    last = [e for e in found.splits["train"] if e.meta.get("trimmed")]
    assert {e.reply for e in last} <= {"5999", "Fine."}
