"""The data card: hashes that follow the rows, JSON that comes back, Markdown that renders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuner.data.card import write_card
from tuner.data.curate import split_hash
from tuner.data.curation import Curation
from tuner.data.datamodule import ConversationData
from tuner.data.sources import Source
from tuner.data.sources.conversations import Conversations
from tuner.data.sources.mixture import Mixture
from tuner.plugins import settings_of

Write = Callable[..., str]
ROWS = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(40)]


def card_of(path: str, tokenizer: Any, **settings: Any) -> dict[str, Any]:
    data = ConversationData(Conversations(path), **settings)
    data.prepare(tokenizer)
    return data.card


def hashes(card: dict[str, Any]) -> dict[str, str]:
    return {name: split["sha256"] for name, split in card["splits"].items()}


def test_hashes_ignore_the_order_and_see_every_change(write: Write, pico: Any) -> None:
    before = hashes(card_of(write("a.jsonl", ROWS), pico))
    assert hashes(card_of(write("b.jsonl", ROWS[::-1]), pico)) == before
    assert len(set(before.values())) == 3
    for place in range(len(ROWS)):
        changed = [row | {"completion": "other"} if row is ROWS[place] else row for row in ROWS]
        after = hashes(card_of(write("c.jsonl", changed), pico))
        assert sum(before[name] != after[name] for name in before) == 1


def test_counts_agree_with_the_rows(write: Write, pico: Any) -> None:
    bad = {"prompt": "x", "completion": ""}
    path = write("a.jsonl", [*ROWS, bad, ROWS[0]])
    data = ConversationData(Conversations(path), val_size=4, test_size=6)
    found = data.prepare(pico)
    card = data.card
    assert (card["rows_in"], card["rows_out"]) == (42, 40)
    assert card["dropped"] == {"no_reply": 1, "repeated": 1}
    assert card["rejected"] == [f"{path}:41: no_reply"]
    assert {name: s["rows"] for name, s in card["splits"].items()} == {
        "train": 30,
        "val": 4,
        "test": 6,
    }
    for name, part in card["splits"].items():
        texts = [pico(row.reply + "</s>")["input_ids"] for row in found.splits[name]]
        assert part["supervised_tokens"] == sum(map(len, texts))
        assert part["tokens"] > part["supervised_tokens"]
        assert part["sha256"] == split_hash(row.id for row in found.splits[name])
    quantiles = card["token_length_quantiles"]
    assert list(quantiles) == ["0", "0.1", "0.5", "0.9", "0.99", "1"]
    assert (quantiles["0"], quantiles["1"]) == (min(found.all_lengths), max(found.all_lengths))


def test_template_and_file_are_fingerprinted(write: Write, pico: Any) -> None:
    path = write("a.jsonl", ROWS)
    before = card_of(path, pico)
    pico.chat_template = str(pico.chat_template) + "{# new #}"
    after = card_of(path, pico)
    assert before["tokenizer"]["template_sha256"] != after["tokenizer"]["template_sha256"]
    other = card_of(write("b.jsonl", ROWS[:-1]), pico)
    assert before["source"]["sha256"] == after["source"]["sha256"] != other["source"]["sha256"]


def test_json_round_trips_and_markdown_renders(write: Write, pico: Any, tmp_path: Path) -> None:
    hostile = [{"a|b\nc": 1}, {"\ud800": 1}, {"messages": [{"role": "бот", "content": "x"}]}]
    card = card_of(write("a.jsonl", [*ROWS, *hostile]), pico)
    live = "*a* `b` <i>\n# c | [d](http://e) \u202e"
    card["source"] |= {"name": live, "path": live, "sources": [{"path": live}]}
    card["tokenizer"]["name"], card["redacted"], card["flagged"] = live, {live: 1}, {live: 2}
    card["flagged_rows"], card["dropped"][live] = [live], 3
    write_card(card, tmp_path)
    assert json.loads((tmp_path / "data_card.json").read_text(encoding="utf-8")) == card
    text = (tmp_path / "data_card.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    told = r"\*a\* \`b\` &lt;i> # c \| \[d\](http\://e) \\u202e".replace("i>", r"i\>")
    assert lines[0] == f"# Data card: {told}"
    assert {f"- path: {told}", f"- redacted: 1 {told}", f"- rows with {told}: 2"} <= {*lines}
    assert {f"  - {told}", f"| {told} | 3 |"} <= {*lines}
    assert f"- tokenizer: {told} (4,096 pieces)" in lines
    assert "<" not in text
    assert "\u202e" not in text
    assert "- rows: 43 in, 40 out; 0 were trimmed, no reply was cut" in lines
    assert "| unknown_shape(a\\|b c) | 1 |" in lines
    assert "| unknown_role(бот) | 1 |" in lines
    for name, part in card["splits"].items():
        row = f"| {name} | {part['rows']} | {part['groups']} | {part['tokens']:,} | "
        assert any(line.startswith(row) and part["sha256"][:12] in line for line in lines)
    columns = [line.replace("\\|", "").count("|") for line in lines if line.startswith("|")]
    steps = 2 + len(card["steps"])
    assert columns == [5] * steps + [3] * 6 + [7] * 5 + [8] * 3  # no cell breaks its table
    assert "Leak check: of " in text


def test_planted_leaks_reach_the_card(write: Write, pico: Any, tmp_path: Path) -> None:
    """The same reply to every question leaks all of the test rows."""
    rows = [{"prompt": f"question {n}", "completion": "The same."} for n in range(40)]
    card = card_of(write("a.jsonl", rows), pico, test_size=5)
    assert card["leak_check"] == {
        "test_rows": 5,
        "contaminated": 0,
        "prompts_exact": 0,
        "prompts_in_train": 0,
        "near_duplicates_in_train": 0,
        "prompts_13gram": 0,
        "replies_in_train": 5,
        "replies_13gram": 0,
    }
    write_card(card, tmp_path)
    text = (tmp_path / "data_card.md").read_text(encoding="utf-8")
    assert "of 5 test rows, 0 have a question that training has seen" in text
    assert "Replies: 5 the same" in text


def test_a_mixture_lists_its_parts(write: Write, pico: Any, tmp_path: Path) -> None:
    parts: list[Source] = [
        Conversations(write("a.jsonl", ROWS[:20])),
        Conversations(write("b.jsonl", ROWS[20:])),
    ]
    data = ConversationData(Mixture(parts))
    data.prepare(pico)
    write_card(data.card, tmp_path)
    text = (tmp_path / "data_card.md").read_text(encoding="utf-8")
    assert text.count("- part: ") == 2
    assert all(part.path in text for part in parts if part.path)


@pytest.mark.parametrize("val_size", [0, 0.2])
def test_settings_are_on_the_card(write: Write, pico: Any, val_size: float) -> None:
    path = write("a.jsonl", ROWS)
    card = card_of(path, pico, val_size=val_size, test_size=3, seed=5, max_length=99)
    assert card["settings"] == {
        "prompt": {
            "class_path": "tuner.data.prompts.chat.Chat",
            "init_args": {"system": None, "supervise": "assistant"},
        },
        "curation": settings_of(Curation()),
        "max_length": 99,
        "val_size": val_size,
        "test_size": 3,
        "seed": 5,
    }
    assert (card["splits"]["val"]["rows"] > 0) == (val_size > 0)
