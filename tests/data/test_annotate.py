"""Annotators on hand-made texts; what they leave on an example."""

import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tuner.data import annotate as rules
from tuner.data.annotate import ANNOTATORS, annotate, kind, priority, sentiment
from tuner.data.example import Example, Message
from tuner.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "neutral"),
        (" \n", "neutral"),
        ("👍🎉", "neutral"),  # emoji are not in the lexicon
        ("Where is my order?", "neutral"),
        ("The box is brown.", "neutral"),
        ("Thank you, great service!", "positive"),
        ("I love it ❤️", "positive"),
        ("THIS IS EXCELLENT!!!", "positive"),
        ("This is terrible.", "negative"),
        ("WORST SHOP EVER, I HATE IT!!!", "negative"),
        ("not good", "negative"),  # the analyser knows this one negation
        ("Das ist furchtbar.", "neutral"),
    ],
)
def test_sentiment(text: str, expected: str) -> None:
    assert sentiment(text) == expected


@pytest.mark.parametrize(
    ("polarity", "expected"),
    [
        (-0.11, "negative"),
        (-0.1, "neutral"),
        (0.0, "neutral"),
        (0.1, "neutral"),
        (0.11, "positive"),
    ],
)
def test_sentiment_thresholds(
    polarity: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blob:
        def __init__(self, text: str) -> None:
            self.sentiment = type("Score", (), {"polarity": polarity})

    monkeypatch.setattr("textblob.TextBlob", Blob)
    assert sentiment("any") == expected


def test_sentiment_needs_no_network_and_no_corpora() -> None:
    """In a process of its own, where nothing is loaded yet, nltk finds no data and no socket."""
    code = """
import os, socket
def refuse(*_, **__): raise OSError("no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
os.environ["HOME"] = os.environ["NLTK_DATA"] = "/nonexistent"
from tuner.data.annotate import sentiment
import nltk.data
nltk.data.path = []
assert [sentiment("A wonderful day."), sentiment("A horrible day.")] == ["positive", "negative"]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "low"),
        ("🚨🚨", "low"),
        ("Which colours are there?", "low"),
        ("This is urgent", "high"),
        ("THIS IS URGENT!!!", "high"),
        ("Please answer (ASAP).", "high"),
        ("A.S.A.P. please", "high"),
        ("I need it as  soon\nas possible", "high"),
        ("My card was stolen", "high"),
        ("I need it soon", "medium"),
        ("still waiting...", "medium"),
        ("today, but urgent", "high"),
        ("not urgent at all", "high"),  # negation is out of scope
        ("an insurgent", "low"),
        ("a plate of latex sooner", "low"),  # holds late and soon
        ("at oncet", "low"),
    ],
)
def test_priority(text: str, expected: str) -> None:
    assert priority(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "other"),
        ("😀", "other"),
        ("Thanks for the help.", "other"),
        ("Do not send it.", "other"),
        ("Whatever you say", "other"),
        ("Have a nice day", "other"),
        ("Tell me which one, please", "other"),
        ("Where is my parcel?", "question"),
        ("where is my parcel", "question"),
        ("HOW DO I PAY", "question"),
        ("hi, can you help me", "question"),
        ("I moved. Can I change the address", "question"),
        ("the blue one?", "question"),
        ("多少钱\uff1f", "question"),
        ("what\u2019s new", "question"),
        ("I want to complain", "complaint"),
        ("THIS IS UNACCEPTABLE", "complaint"),
        ("Why did my parcel arrive broken?", "complaint"),  # a complaint comes before a question
        ("It doesn\u2019t work", "complaint"),
        ("an unbroken promise", "other"),
    ],
)
def test_kind(text: str, expected: str) -> None:
    assert kind(text) == expected


@pytest.mark.parametrize("words", ["HIGH", "MEDIUM", "COMPLAINT", "ASKS"])
def test_word_lists_are_as_the_text_is_searched(words: str) -> None:
    listed = getattr(rules, words)
    assert len(set(listed)) == len(listed)
    assert all(word == word.casefold() == re.sub(r"\s+", " ", word) for word in listed)


def test_every_listed_word_is_found_alone_and_in_capitals() -> None:
    found: list[tuple[tuple[str, ...], Callable[[str], str], str]] = [
        (rules.HIGH, priority, "high"),
        (rules.MEDIUM, priority, "medium"),
        (rules.COMPLAINT, kind, "complaint"),
        (rules.ASKS, kind, "question"),
    ]
    for words, rule, value in found:
        assert {w for w in words if rule(w) != value or rule(f"{w.upper()} x") != value} == set()


def test_annotate_reads_the_last_user_message_and_keeps_the_rest() -> None:
    example = Example(
        messages=(
            Message("system", "Urgent, terrible, complain?"),
            Message("user", "URGENT: this is awful, I complain."),
            Message("assistant", "Sorry."),
            Message("user", "Thanks, that is great. Until when are you open?"),
            Message("assistant", "Urgent, terrible: we complain."),
        ),
        group="g",
        category="c",
        meta={"where": "file:1", "kind": "from the source"},
    )
    done = annotate(example, ["sentiment", "priority", "kind"])
    assert done.meta == {
        "where": "file:1",
        "sentiment": "positive",
        "priority": "low",
        "kind": "question",
    }
    assert json.loads(json.dumps(done.meta)) == done.meta
    assert (done.id, done.messages, done.group, done.category) == (
        (example.id, example.messages, "g", "c")
    )
    assert example.meta["kind"] == "from the source", "the given example is as it was"
    assert annotate(example, []) == example
    assert annotate(example, ["priority"]).meta == {**example.meta, "priority": "low"}


def test_annotate_without_a_user_message() -> None:
    done = annotate(Example((Message("assistant", "Urgent!"),), "g"), ["priority", "kind"])
    assert done.meta == {"priority": "low", "kind": "other"}


def test_an_unknown_annotator_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no 'sentimnt'\. Did you mean 'sentiment'\? Allowed: "):
        annotate(Example((Message("user", "x"),), "g"), ["sentimnt"])  # pyright: ignore


def test_names_of_the_annotators_are_those_of_the_type() -> None:
    assert ANNOTATORS.keys() == set(rules.Annotator.__args__)  # pyright: ignore
