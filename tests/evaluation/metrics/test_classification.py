"""Accuracy and macro-F1 against scikit-learn, and when references are labels."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tests.evaluation.conftest import pairs
from tuner.errors import UserError
from tuner.evaluation.metrics.labels import Labels

SAMPLES = Path(__file__).parents[3] / "data" / "samples"
LABELS = ["business", "health", "sport", "A", "not sure"]


def draw(seed: int) -> tuple[list[str], list[str]]:
    """Replies, some of which are no label, for references of uneven frequency."""
    rng = random.Random(seed)
    n = rng.choice([1, 3, 10, 60])
    references = rng.choices(LABELS, weights=[9, 5, 3, 2, 1], k=n)
    noise = rng.choice([0.0, 0.3, 1.0])
    others = [*LABELS, "", "politics", "the sport"]
    return [rng.choice(others) if rng.random() < noise else one for one in references], references


@pytest.mark.parametrize("seed", range(60))
def test_equal_to_scikit_learn(seed: int) -> None:
    replies, references = draw(seed)
    scores = Labels().score(pairs(replies, references))
    accuracy = Labels().corpus("accuracy", scores["accuracy"].statistics.sum(axis=0))
    macro = Labels().corpus("macro_f1", scores["macro_f1"].statistics.sum(axis=0))
    assert accuracy == pytest.approx(accuracy_score(references, replies))
    present = sorted(set(references))
    expected = f1_score(references, replies, labels=present, average="macro", zero_division=0)
    assert macro == pytest.approx(expected)


def test_resamples_without_some_label_are_of_the_labels_they_have() -> None:
    replies, references = draw(2)
    statistics = Labels().score(pairs(replies, references))["macro_f1"].statistics
    for seed in range(20):
        drawn = np.random.default_rng(seed).integers(0, len(replies), size=4)
        ours, theirs = [replies[i] for i in drawn], [references[i] for i in drawn]
        expected = f1_score(theirs, ours, labels=sorted(set(theirs)), average="macro")
        assert Labels().corpus("macro_f1", statistics[drawn].sum(axis=0)) == pytest.approx(expected)


def test_macro_f1_by_hand() -> None:
    # a: 1 of 2 found, 1 written: 2/3; b: 1 of 1 found, 2 written: 2/3; "maybe" is no label
    scores = Labels().score(pairs(["a", "b", "B.", "maybe"], ["a", "a", "b", "c"]))["macro_f1"]
    assert Labels().corpus("macro_f1", scores.statistics.sum(axis=0)) == pytest.approx(4 / 9)
    assert scores.rows.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("reply", "correct"),
    [
        ("Sport", 1),
        (" sport.\n", 1),
        ("“sport”", 1),
        ("**sport**", 1),
        ("The label is sport", 0),
        ("sport, health", 0),
        ("", 0),
    ],
)
def test_a_reply_is_its_label_or_none(reply: str, correct: float) -> None:
    assert Labels().score(pairs([reply], ["sport"]))["accuracy"].rows[0] == correct


def test_choices_that_are_articles_or_signs_are_labels() -> None:
    rows = pairs(["A", "B", "-", "+"], ["a", "A", "+", "+"])
    assert Labels().score(rows)["accuracy"].rows.tolist() == [1, 0, 0, 1]


def test_a_row_without_reference_has_no_value_and_does_not_count_as_written() -> None:
    scores = Labels().score(pairs(["a", "a", "b"], ["", "a", "b"]))
    assert np.isnan(scores["macro_f1"].rows[0])
    assert scores["macro_f1"].statistics[0].sum() == 0


def references(name: str) -> list[str]:
    lines = (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"][-1]["content"] for line in lines]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (references("headlines"), True),
        (references("headlines")[::10], True),  # a test split of 30 rows
        (references("faq"), False),
        (references("support"), False),  # few replies, each several times, but long ones
        (references("docstrings"), False),
        (["yes", "no"] * 5, True),
        (["yes", "no"], False),
        (["yes"] * 10, False),
        (["yes"] * 10 + ["No, because of the weather"], False),
        ([str(number) for number in range(40)], False),
        (["", "", ""], False),
        ([], False),
    ],
)
def test_applies_where_references_look_like_labels(texts: list[str], expected: bool) -> None:
    assert Labels().applies(pairs(["x"] * len(texts), texts)) is expected


def test_more_references_than_there_are_labels_are_refused() -> None:
    texts = [f"reply {number}" for number in range(101)]
    with pytest.raises(UserError, match=r"101 different references.*exact_match"):
        Labels().score(pairs(texts, texts))
