"""Exact match against torchmetrics' SQuAD, and where SQuAD's rule would be wrong."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.text import squad

from tests.evaluation.conftest import pairs
from tuner.evaluation.metrics.exact_match import ExactMatch

WORDS = st.lists(st.sampled_from(["the", "a", "An", "cat", "CAT", "Theme"]), max_size=4)
ASCII = st.text(string.ascii_letters[:3] + string.punctuation + " \n", max_size=6)


def match(ours: str, theirs: str) -> float:
    return ExactMatch().score(pairs([ours], [theirs]))["exact_match"].rows[0]


@settings(max_examples=300, deadline=None)
@given(ours=st.one_of(WORDS.map(" ".join), ASCII), theirs=st.one_of(WORDS.map(" ".join), ASCII))
def test_equals_torchmetrics_where_something_is_left(ours: str, theirs: str) -> None:
    expected = squad(
        [{"prediction_text": ours + " x", "id": "1"}],
        [{"answers": {"answer_start": [0], "text": [theirs + " x"]}, "id": "1"}],
    )["exact_match"]
    assert match(ours + " x", theirs + " x") == float(expected) / 100


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ("The  Eiffel\nTower.", "eiffel tower", 1),
        ("an apple", "Apple!", 1),
        ("“sport”", "sport", 1),
        ("STRASSE", "straße", 1),
        ("sport news", "sport", 0),
        ("A", "the", 0),  # choices of a quiz, all of them articles or signs to SQuAD
        ("A.", "a", 1),
        ("+", "-", 0),
        ("", "sport", 0),
        ("中文。", "中文", 1),
    ],
)
def test_by_hand(ours: str, theirs: str, expected: float) -> None:
    assert match(ours, theirs) == expected
