"""The shipped conversations are what their cards say."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tuner.data.near import plain
from tuner.data.sources.conversations import Conversations

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
PASSAGES = "general"  # plain text, no conversations
NAMES = sorted(file.stem for file in SAMPLES.glob("*.jsonl") if file.stem != PASSAGES)
LABELS = ("business", "health", "politics", "science", "sport", "technology")
# Words that say nothing of what a message is about.
EMPTY = {
    "that", "this", "with", "have", "your", "from", "they",
    "when", "there", "were", "would", "some", "will", "just", "like",
}  # fmt: skip
CLOSING = re.compile(
    r".*(regards|wishes|sincerely|respectfully|faithfully|yours|thanks|gratitude),", re.I
)


def rows_of(name: str) -> list[dict[str, Any]]:
    text = (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_every_set_is_listed() -> None:
    listed = (SAMPLES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(\w+)\]", listed, re.M) == sorted(
        NAMES, key=lambda name: listed.index(f"[{name}]")
    )
    for name in NAMES:
        assert f"[{name}]({name}.md) | {len(rows_of(name)):,} |" in listed


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_whole_and_distinct(name: str) -> None:
    found = Conversations(str(SAMPLES / f"{name}.jsonl")).rows()
    assert not found.rejected
    assert len({plain(e.prompt[-1].content) for e in found.examples}) == found.seen
    assert all(len(e.reply) > 3 and e.group and e.category for e in found.examples)
    text = (SAMPLES / f"{name}.jsonl").read_text(encoding="ascii")
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    mails = re.findall(r"[\w.+-]+@[\w-]+\.[\w.-]*\w", text)
    assert all(mail.endswith(("@example.com", "@example.org")) for mail in mails), set(mails)


@pytest.mark.parametrize("name", NAMES)
def test_counts_on_the_card_are_those_of_the_file(name: str) -> None:
    rows = rows_of(name)
    card = (SAMPLES / f"{name}.md").read_text(encoding="utf-8")
    table = {cell: int(count) for cell, count in re.findall(r"^\| (\w+) \| (\d+) \|", card, re.M)}
    assert table == Counter(row["category"] for row in rows)
    assert f"{len(rows):,} single-turn" in card


def test_a_group_has_one_category() -> None:
    for name in NAMES:
        pairs = {(row["group"], row["category"]) for row in rows_of(name)}
        assert len(pairs) == len({group for group, _ in pairs}), name


def test_formal_emails_have_the_form_of_one() -> None:
    for row in rows_of("formal_email"):
        reply = row["messages"][1]["content"]
        subject, blank, greeting, *rest = reply.split("\n")
        assert subject.startswith("Subject: "), row["id"]
        assert not blank, row["id"]
        assert re.fullmatch(r"(Dear|Hello|Hi|Good) .+,", greeting), row["id"]
        assert any(CLOSING.fullmatch(line) for line in rest[-3:]), row["id"]
        assert 60 <= len(reply.split()) <= 150, row["id"]


def test_what_is_out_of_scope_is_declined_and_nothing_else() -> None:
    for row in rows_of("faq"):
        declined = "I can only answer questions about Tallowmere" in row["messages"][1]["content"]
        assert declined == (row["category"] == "out_of_scope"), row["id"]


def test_headlines_have_one_of_six_labels() -> None:
    for row in rows_of("headlines"):
        headline, label = (message["content"] for message in row["messages"])
        assert row["category"] == label in LABELS, row["id"]
        assert 6 <= len(headline.split()) <= 14, row["id"]
    setting = (SAMPLES.parents[1] / "configs/data/headlines.yaml").read_text(encoding="utf-8")
    assert all(label in setting for label in LABELS)


def test_craft_replies_take_up_what_the_customer_wrote() -> None:
    rows = rows_of("crafts_replies")
    card = (SAMPLES / "crafts_replies.md").read_text(encoding="ascii")
    texts = [[message["content"] for message in row["messages"]] for row in rows]
    for place, word in enumerate(("Messages have", "replies")):
        lengths = [len(pair[place].split()) for pair in texts]
        mean = sum(lengths) / len(lengths)
        assert f"{word} {min(lengths)} to {max(lengths)}" in " ".join(card.split())
        assert f"{max(lengths)}{' words' * (not place)} (mean {mean:.0f})" in card
    groups = Counter(category for category, _ in {(r["category"], r["group"]) for r in rows})
    for category, count in groups.items():
        assert re.search(rf"^\| {category} \| \d+ \| {count} \|", card, re.M), category
    for ask, reply in texts:
        words = [set(re.findall(r"[a-z]{4,}", text.lower())) for text in (ask, reply)]
        assert words[0] & words[1] - EMPTY, ask


def test_passages_are_what_their_card_says() -> None:
    rows = rows_of(PASSAGES)
    card = (SAMPLES / f"{PASSAGES}.md").read_text(encoding="ascii")
    table = {cell: int(count) for cell, count in re.findall(r"^\| (\w+) \| (\d+) \|", card, re.M)}
    assert table == Counter(row["kind"] for row in rows)
    assert f"{len(rows)} passages" in card
    lengths = [len(row["text"].split()) for row in rows]
    assert f"{min(lengths)} to {max(lengths)} words ({sum(lengths) / len(rows):.0f} on" in card
    assert len({row["id"] for row in rows}) == len({plain(row["text"]) for row in rows}) == 60
    assert all(row["text"].isascii() and "\n" not in row["text"] for row in rows)
