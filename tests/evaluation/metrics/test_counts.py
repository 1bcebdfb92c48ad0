"""Words, length, diversity, repetition and copying, by hand."""

import math

import pytest

from tests.evaluation.conftest import pair, pairs
from tuner.evaluation.metric import Metric
from tuner.evaluation.metrics.copied import Copied
from tuner.evaluation.metrics.diversity import Distinct, Repetition
from tuner.evaluation.metrics.length import Length
from tuner.evaluation.words import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't PANIC, it's 3.5 kg!", ["dont", "panic", "its", "3", "5", "kg"]),
        ("can\u2019t", ["cant"]),
        ("snake_case well-known", ["snake", "case", "well", "known"]),
        ("👍 … —", []),
        ("中文字, カナ", ["中", "文", "字", "カ", "ナ"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("naïve Straße", ["naïve", "strasse"]),
        ("\u200f\u05d0\u05d1\u200f \u05d2", ["\u05d0\u05d1", "\u05d2"]),
        ("a\0b\ud800c", ["a", "b", "c"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def value(metric: Metric, key: str, predictions: list[str], references: list[str]) -> float:
    statistics = metric.score(pairs(predictions, references))[key].statistics
    return float(metric.corpus(key, statistics.sum(axis=0)))


def test_length_is_a_ratio_of_sums() -> None:
    rows = pairs(["one two three", "", "one", "x"], ["one", "one two", "one, two; three!", "…"])
    scores = Length().score(rows)["length_ratio"]
    assert scores.rows[:3].tolist() == [3, 0, 1 / 3]
    assert math.isnan(scores.rows[3])
    assert Length().corpus("length_ratio", scores.statistics.sum(axis=0)) == pytest.approx(4 / 6)


def test_distinct_runs_are_counted_within_each_reply() -> None:
    replies = ["the cat the cat sat", "the cat", "no"]
    blank = [""] * 3
    assert value(Distinct(), "distinct1", replies, blank) == pytest.approx((3 + 2 + 1) / 8)
    assert value(Distinct(), "distinct2", replies, blank) == pytest.approx((3 + 1) / 5)
    assert math.isnan(Distinct().score(pairs(["no"], [""]))["distinct2"].rows[0])


def test_repetition_is_the_share_of_runs_that_stood_there_before() -> None:
    loop = "I do not know. " * 5  # 20 words, 17 runs, 4 of them different
    assert value(Repetition(), "repetition", [loop], [""]) == pytest.approx(13 / 17)
    good = "We can help you with your order and we can help you with your bill."
    assert value(Repetition(), "repetition", [good], [""]) == pytest.approx(3 / 12)
    assert math.isnan(Repetition().score(pairs(["one two three"], [""]))["repetition"].rows[0])
    assert Repetition().higher_is_better is False


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Where is my order now?", 1),
        ("You asked: where is my order", 1 / 3),
        ("Order", 1),  # a short reply is one run
        ("my order", 1),
        ("my parcel", 0),
        ("order my is where", 0),
    ],
)
def test_copied_from_the_question(reply: str, expected: float) -> None:
    row = pair(reply, "", question="So, where is my order now", prompt="my parcel")
    assert Copied().score([row])["copied"].rows[0] == pytest.approx(expected)


def test_copied_from_the_prompt_where_there_is_no_question() -> None:
    rows = [pair("my order", "", prompt="<|user|>\nWhere is my order?"), pair("", "", prompt="a")]
    found = Copied().score(rows)["copied"].rows
    assert found[0] == 1
    assert math.isnan(found[1])
