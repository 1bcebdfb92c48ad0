"""Polarity and politeness on hand-made texts."""

import pytest
from textblob import TextBlob

from tests.evaluation.conftest import pairs
from tuner.data.annotate import polarity
from tuner.evaluation.metrics import politeness
from tuner.evaluation.metrics.politeness import Politeness, strategies
from tuner.evaluation.metrics.tone import Tone

TEXTS = ["This is wonderful!", "An awful, terrible day :-(", "The box is brown.", "", "WOW!!!!!!"]


def test_polarity_is_textblobs() -> None:
    found = Tone().score(pairs(TEXTS, TEXTS))["polarity"].rows
    assert found.tolist() == [TextBlob(text).sentiment.polarity for text in TEXTS]  # pyright: ignore
    assert found[0] > 0.5 > -0.5 > found[1]
    assert found[2] == found[3] == 0


def test_long_runs_of_signs_change_nothing_but_the_time() -> None:
    assert polarity("good " + "!" * 33) == polarity("good " + "!" * 100_000)
    assert polarity("good _" + "-" * 40 + " bad") == polarity("good _" + "-" * 300 + " bad")


def test_the_lexicon_is_part_of_the_signature() -> None:
    assert "lexicon:sha256 " in Tone().signatures()["polarity"]
    assert "lexicon:sha256 " in Politeness().signatures()["politeness"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", set()),
        ("The parcel arrives on Friday.", set()),
        ("Please, please, PLEASE send it.", {"please"}),
        ("Thank you for your patience.", {"gratitude"}),
        ("I'm\u00a0sorry for the delay.", {"apology"}),
        ("Hello! Could you send it?", {"greeting", "request"}),
        ("I\u2019m afraid it is sold out.", {"hedge"}),
        ("Happy to help, and congratulations.", {"deference"}),
        ("would you\nmind waiting", {"request"}),
        ("high ship, dearest; unpleased pardons", set()),  # hi, please and dear are parts of words
    ],
)
def test_strategies(text: str, expected: set[str]) -> None:
    assert strategies(text) == expected


def test_politeness_counts_each_strategy_once() -> None:
    text = "Dear Ann, thank you, thanks. Could you please send it? Sorry! Perhaps of course."
    rows = Politeness().score(pairs([text, text * 9, "please"], [""] * 3))["politeness"].rows
    assert rows.tolist() == [1, 1, 1 / 7]


def test_every_marker_is_found_and_stands_in_one_strategy() -> None:
    for name, markers in politeness.STRATEGIES.items():
        for marker in markers:
            assert strategies(f"x {marker.upper()}, y") >= {name}, marker
    listed = [marker for markers in politeness.STRATEGIES.values() for marker in markers]
    assert len(listed) == len(set(listed))
