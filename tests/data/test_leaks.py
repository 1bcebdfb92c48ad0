"""The leak check against sets of runs of words, made the plain way."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest

from tuner.data import leaks
from tuner.data.curation import Curation
from tuner.data.datamodule import ConversationData
from tuner.data.leaks import WORDS, ngrams, shared_ngrams
from tuner.data.sources.conversations import Conversations
from tuner.errors import UserError


def runs(text: str) -> set[tuple[str, ...]]:
    """Runs of 13 words of a text, by the definition."""
    words = re.sub(r"[\W_]+", " ", text.lower()).split()
    return {tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)}


def texts(count: int, seed: int, words: int = 60) -> list[str]:
    draw = random.Random(seed)
    return [
        " ".join(f"w{draw.randint(0, words)}" for _ in range(draw.randint(0, 40)))
        for _ in range(count)
    ]


def test_equals_sets_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "BLOCK", 16)  # many blocks
    learned = texts(200, seed=1)
    draw = random.Random(2)
    test = texts(50, seed=3)
    for place in range(0, 50, 3):  # a piece of a learned text, in other signs and case
        words = draw.choice(learned).split()
        test[place] += ". " + ", ".join(words[: draw.randint(10, 30)]).upper()
    seen = set().union(*map(runs, learned))
    expected = [bool(runs(text) & seen) for text in test]
    assert 5 < sum(expected) < 45
    assert shared_ngrams(test, learned).tolist() == expected


def test_runs_do_not_reach_over_the_border_of_two_texts() -> None:
    one, two = " ".join("abcdefgh"), " ".join("ijklmnop")
    assert not shared_ngrams([f"{one} {two}"], [one, two]).any()
    assert shared_ngrams([f"{one} {two}"], [f"x {one} {two} y"]).all()


def test_common_phrases_do_not_count() -> None:
    phrase = "please answer the question below as well as you can in one short sentence"
    learned = [f"{phrase} {n}" for n in range(200)]
    assert not shared_ngrams([f"{phrase} new?"], learned).any()
    assert shared_ngrams([f"{phrase} new?"], learned[:3] + texts(200, seed=5)).all()


def test_what_follows_a_common_phrase_does_not_count_alone() -> None:
    ask = "please write a short and friendly reply to this message of one of my customers"
    learned = [
        f"{ask} number {i} is waiting {'since we met in may ' * (i == 3)}" for i in range(90)
    ]
    test = [f"{ask} number 3 is on", f"{ask} number 3 is waiting since we met in may", "number"]
    assert shared_ngrams(test, learned).tolist() == [False, True, False]


def test_a_passage_that_several_rows_are_about_counts() -> None:
    passages = [f"{text} {number}" for number, text in enumerate(texts(20, seed=8)) if text]
    long = [f"{p} {p[::-1]}" for p in passages if len(p.split()) > 20]
    learned = [f"{passage} question {n}" for passage in long for n in range(3)]
    assert len(learned) >= 30
    assert shared_ngrams([f"{passage} and another" for passage in long], learned).all()


def test_nothing_to_compare() -> None:
    assert shared_ngrams([], ["a"]).tolist() == []
    assert shared_ngrams(["a b c"], []).tolist() == [False]
    hashes, places = ngrams(["", "short"])
    assert (hashes.size, places.size) == (0, 0)
    assert hashes.dtype == np.uint64


def leaky(count: int) -> list[dict[str, Any]]:
    """Each question once in each of two groups, a few signs apart."""
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(texts(count, seed=9, words=5000)):
        ask = f"What about {text or number}"
        rows.append({"prompt": ask, "completion": f"a{number}", "group": f"a{number}"})
        rows.append({"prompt": f"{ask}!", "completion": f"b{number}", "group": f"b{number}"})
    return rows


def test_a_leaking_split_stops_the_run_unless_it_is_allowed(write: Any, pico: Any) -> None:
    path = write("a.jsonl", leaky(60))

    def prepare(**rules: Any) -> Any:
        return ConversationData(
            Conversations(path), val_size=0, test_size=0.3, curation=Curation(**rules)
        ).prepare(pico)

    grouped = prepare()
    assert grouped.account["leak_check"]["contaminated"] == 0
    with pytest.raises(
        UserError, match=r"max_leaks: \d+\.\d% of the test rows .*allow '\[leaks\]'"
    ):
        prepare(near_duplicates="keep")
    allowed = prepare(near_duplicates="keep", allow=("leaks",))
    counts = allowed.account["leak_check"]
    assert counts["contaminated"] == counts["prompts_in_train"] == allowed.contaminated.sum() > 5
    learned = {e.group[1:] for e in allowed.splits["train"]}
    expected = [e.group[1:] in learned for e in allowed.splits["test"]]
    assert allowed.contaminated.tolist() == expected
    assert prepare(near_duplicates="keep", max_leaks=1.0).account == allowed.account
    dropped = prepare(near_duplicates="drop")
    assert dropped.dropped["near_duplicate"] >= 60
    assert dropped.account["leak_check"]["contaminated"] == 0
