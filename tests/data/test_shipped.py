"""The shipped conversations are what their cards say."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tuner.data.near import plain
from tuner.data.sources.conversations import Conversations

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
CARDS = {"support": "README.md", "tiny_sft": "tiny_sft.md"}


def test_every_sample_has_a_card() -> None:
    assert {file.stem for file in SAMPLES.glob("*.jsonl")} == CARDS.keys()


@pytest.mark.parametrize("name", CARDS)
def test_rows_are_whole_and_distinct(name: str) -> None:
    found = Conversations(str(SAMPLES / f"{name}.jsonl")).rows()
    assert not found.rejected
    assert len({plain(e.prompt[-1].content) for e in found.examples}) == found.seen
    assert all(len(e.reply) > 3 and e.group and e.category for e in found.examples)
    text = (SAMPLES / f"{name}.jsonl").read_text(encoding="ascii")
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)


@pytest.mark.parametrize("name", CARDS)
def test_counts_on_the_card_are_those_of_the_file(name: str) -> None:
    rows = [json.loads(line) for line in (SAMPLES / f"{name}.jsonl").read_text().splitlines()]
    card = (SAMPLES / CARDS[name]).read_text(encoding="utf-8")
    table = {cell: int(count) for cell, count in re.findall(r"^\| (\w+) \| (\d+) \|", card, re.M)}
    assert table == Counter(row["category"] for row in rows)
    assert f"{len(rows):,} single-turn" in card
