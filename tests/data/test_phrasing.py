"""Spellings of one question have one key, and other questions another."""

import random

import pytest

from tuner.data.phrasing import WORDS, phrasing


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I don't know how to cancel my order", "i dont know how to cacnel my order"),
        ("I want to see my invoices", "i wanna see my invoices!"),
        ("can you help me?", "can uhelp me"),
        ("could you please close the account", "could ya close the goddamn account"),
        ("I need assistance to add some products", "i needassistance to add some prodcts"),
        ("cancelling my purchase", "canceling my purchse"),
        ("what is the E.T.A. of order 123-45?", "What\u2019s the e t a of order 9"),
    ],
)
def test_variants_of_an_utterance_have_one_key(one: str, other: str) -> None:
    assert phrasing(one) == phrasing(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cancel my order", "track my order"),
        ("how do I open an account", "how do I close an account"),
        ("upgrade to premium", "upgrade to platinum"),
        ("I have not received it", "I have received it"),
    ],
)
def test_other_questions_have_other_keys(one: str, other: str) -> None:
    assert phrasing(one) != phrasing(other)


def test_one_typo_in_a_long_word_changes_no_key() -> None:
    rng = random.Random(0)
    words = [word for word in sorted(WORDS) if len(word) >= 8]
    same = 0
    for word in words:
        cut = rng.randrange(1, len(word) - 1)
        swapped = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
        dropped = word[:cut] + word[cut + 1 :]
        same += phrasing(swapped) == phrasing(word) == phrasing(dropped)
    assert same / len(words) > 0.95


@pytest.mark.parametrize("text", ["", "?!", "123", "\u00fcber \u6ce8\u6587", "x" * 5000])
def test_any_text_has_a_key(text: str) -> None:
    assert phrasing(text) == phrasing(text.upper())
