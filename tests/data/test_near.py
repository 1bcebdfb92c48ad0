"""Near-duplicate families against exact Jaccard similarities, computed the slow way."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.data.example import Example, Message
from tuner.data.near import Families, first_rows, plain, question, shingles, signature

WORDS = [
    *("order", "parcel", "refund", "late", "broken", "colour", "garden"),
    *("lamp", "chair", "invoice", "card", "gift", "code"),
]


def row(prompt: str) -> Example:
    return Example((Message("user", prompt), Message("assistant", "Fine.")), group=prompt)


def families(prompts: list[str], folder: Path) -> list[int]:
    collected = Families(folder)
    examples = [row(prompt) for prompt in prompts]
    for start in range(0, len(examples), 7):  # block by block
        pieces = [shingles(question(e.messages)) for e in examples[start : start + 7]]
        sizes = np.array([len(p) for p in pieces], dtype=np.int32)
        collected.add(np.stack([signature(p) for p in pieces]), sizes)
    ids = np.array([int(example.id, 16) for example in examples], dtype=np.uint64)
    found = collected.join(ids)
    assert not list(folder.iterdir()), "the files of signatures are gone"
    return found.tolist()


def jaccard(one: str, two: str) -> float:
    a, b = set(shingles(one).tolist()), set(shingles(two).tolist())
    return len(a & b) / len(a | b)


@pytest.mark.parametrize(
    "variant",
    [
        "how do i RETURN the garden lamp that I bought last week",
        "  How do I return the garden lamp, that I bought last week?! ",
        "How do I return the garden lamp that I bought last weak?",
        "How do I return the garden lamps that I bought last week?",
        "How do I return the garden lamp that I bought last month?",
        "Hello, how do I return the garden lamp that I bought last week?",
    ],
)
def test_variants_of_a_question_are_one_family(variant: str, tmp_path: Path) -> None:
    question = "How do I return the garden lamp that I bought last week?"
    others = ["Where is my order?", "Please cancel my newsletter at once.", "Do you sell bees?"]
    assert families([question, *others, variant], tmp_path) == [0, 1, 2, 3, 0]


def test_families_are_those_of_the_exact_similarities(tmp_path: Path) -> None:
    """Pairs well above 0.7 are joined, and nothing is joined through pairs all below 0.6."""
    draw = random.Random(3)
    prompts: list[str] = []
    for _ in range(120):
        words = draw.choices(WORDS, k=12)
        prompts.append(" ".join(words))
        for place in draw.sample(range(12), k=draw.randint(0, 4)):
            words[place] = draw.choice(WORDS)
        prompts.append(" ".join(words))
    found = families(prompts, tmp_path)
    pairs = {(a, b): jaccard(prompts[a], prompts[b]) for a, b in combinations(range(240), 2)}
    sure = [pair for pair, similarity in pairs.items() if similarity > 0.85]
    assert len(sure) > 20
    assert all(found[a] == found[b] for a, b in sure)
    near: dict[int, set[int]] = {place: set() for place in range(240)}
    for (a, b), similarity in pairs.items():
        if similarity > 0.58:  # three standard errors of the estimate below the threshold
            near[a].add(b)
            near[b].add(a)
    for a, b in combinations(range(240), 2):
        if found[a] == found[b]:
            reached, edge = {a}, {a}
            while edge:
                edge = {n for e in edge for n in near[e]} - reached
                reached |= edge
            assert b in reached


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    draw = random.Random(1)
    prompts = [" ".join(draw.choices(WORDS, k=6)) for _ in range(300)]
    shuffled = draw.sample(prompts, len(prompts))

    def sets(rows: list[str]) -> set[frozenset[str]]:
        found = families(rows, tmp_path)
        return {
            frozenset(p for p, f in zip(rows, found, strict=True) if f == name) for name in found
        }

    assert sets(prompts) == sets(shuffled)


@pytest.mark.parametrize("text", ["", " ", "?", "a", "ab", "\U0001f600", "\U0001f600 \U0001f600"])
def test_the_shortest_texts_have_a_signature(text: str) -> None:
    assert len(shingles(text)) >= 1
    assert signature(shingles(text)).shape == (120,)


def test_scripts_other_than_latin_are_no_blank() -> None:
    assert plain("Где мой заказ?") == "где мой заказ"
    assert plain("我的订单在哪里。") == "我的订单在哪里"
    assert plain("!?") == "!?"


def test_labels_are_named_by_their_first_row() -> None:
    labels: Any = np.array([7, 3, 7, 1, 3, 9])
    assert first_rows(labels).tolist() == [0, 1, 0, 3, 1, 5]
