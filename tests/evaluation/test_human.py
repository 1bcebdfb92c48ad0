"""What is counted of people's ratings, against counts and formulas of its own."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
from comparisons import SYSTEMS, begin, write_comparison
from scipy.stats import binomtest

from tuner.evaluation.human import summarise
from tuner.evaluation.predictions import read_predictions, write_predictions
from tuner.rating.store import Rating, Store

BASE, TUNED = SYSTEMS


def score(rater: str, item: int, system: str, value: int, **more: Any) -> Rating:
    given = {"rater": rater, "item": f"id{item}", "system": system, "value": str(value)}
    return Rating(**{"turn": 1, "kind": "score", "criterion": "overall"} | given | more)  # pyright: ignore


def prefers(rater: str, item: int, better: str, **more: Any) -> Rating:
    given = {"rater": rater, "item": f"id{item}", "system": BASE, "other": TUNED, "value": better}
    return Rating(**{"turn": 1, "kind": "preference"} | given | more)  # pyright: ignore


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return begin(write_comparison(tmp_path, count=20))[1]


def summary(store: Store, *ratings: Rating) -> dict[str, Any]:
    store.save(ratings)
    found = summarise(store.path.parent)
    assert found
    json.dumps(found, allow_nan=False)
    return found


def test_nobody_has_rated(tmp_path: Path) -> None:
    write_comparison(tmp_path)
    assert summarise(tmp_path) is None
    assert not (tmp_path / "ratings.sqlite").exists(), "looking makes no file"
    begin(tmp_path)
    assert summarise(tmp_path) is None


def test_ratings_of_other_answers_are_a_problem_and_no_figures(store: Store) -> None:
    summary(store, score("Ann", 0, BASE, 3))
    file = store.path.parent / "predictions.jsonl"
    rows = [dataclasses.replace(row, prediction="new") for row in read_predictions(file)]
    write_predictions(file, rows)
    assert summarise(store.path.parent) == {
        "problem": "ratings.sqlite holds ratings of other answers than there are now"
    }


def test_one_rater(store: Store) -> None:
    values = [1, 2, 3, 4, 5, 5, 4, 4, 4, 2]
    found = summary(store, *(score("Ann", n, TUNED, value) for n, value in enumerate(values)))
    tuned = found["systems"][TUNED]
    assert tuned["scores"]["overall"]["mean"] == 3.4
    assert tuned["scores"]["overall"]["n"] == tuned["scores"]["overall"]["items"] == 10
    low, high = tuned["scores"]["overall"]["ci95"]
    assert low == pytest.approx(3.4 - 1.96 * 1.28 / 10**0.5, abs=0.12)
    assert high == pytest.approx(3.4 + 1.96 * 1.28 / 10**0.5, abs=0.12)
    assert tuned["scores"]["tone"] == {"n": 0, "items": 0, "mean": None, "ci95": None}
    expected = binomtest(6, 10).proportion_ci(method="wilson")
    assert (tuned["success"]["successes"], tuned["success"]["rate"]) == (6, 0.6)
    assert tuned["success"]["ci95"] == pytest.approx([expected.low, expected.high])
    assert found["systems"][BASE]["success"]["rate"] is None
    assert (found["raters"], found["items"], found["ratings"]) == (1, 10, 10)
    assert found["agreement"]["scores"]["overall"]["reason"] == "no two raters have rated the same"


def test_raters_who_agree_make_no_interval_narrower(store: Store) -> None:
    values = [random.Random(n).randint(1, 5) for n in range(20)]
    once = summary(store, *(score("Ann", n, TUNED, value) for n, value in enumerate(values)))
    more = [score(r, n, TUNED, v) for r in ("Ben", "Cem") for n, v in enumerate(values)]
    thrice = summary(store, *more)
    for part in (lambda s: s["scores"]["overall"]["ci95"], lambda s: s["success"]["ci95"]):
        assert part(thrice["systems"][TUNED]) == pytest.approx(part(once["systems"][TUNED]))
    assert thrice["systems"][TUNED]["success"]["n"] == 60
    assert thrice["agreement"]["scores"]["overall"]["alpha"] == 1.0


def test_wins_losses_and_ties_count_items(store: Store) -> None:
    ratings = [prefers("Ann", n, TUNED) for n in range(9)]
    ratings += [prefers("Ann", n, BASE) for n in range(9, 11)]
    ratings += [prefers("Ann", n, "") for n in range(11, 15)]
    ratings += [prefers("Ben", 0, BASE), prefers("Ben", 1, ""), prefers("Ben", 2, TUNED)]
    (pair,) = summary(store, *ratings)["pairs"]
    assert (pair["a"], pair["b"]) == SYSTEMS
    # Item 0 is undecided between Ann and Ben; item 1 has one vote and a tie.
    assert [pair[key] for key in ("items", "wins", "losses", "ties")] == [15, 8, 2, 5]
    assert pair["votes"] == {"wins": 10, "losses": 3, "ties": 5}
    test = binomtest(8, 10)
    assert pair["win_rate"] == 0.8
    assert pair["p"] == pair["p_holm"] == pytest.approx(test.pvalue)
    interval = test.proportion_ci(method="wilson")
    assert pair["ci95"] == pytest.approx([interval.low, interval.high])


def test_ties_alone_have_no_rate(store: Store) -> None:
    (pair,) = summary(store, *(prefers("Ann", n, "") for n in range(3)))["pairs"]
    assert pair["ties"] == 3
    assert [pair[key] for key in ("win_rate", "ci95", "p", "p_holm")] == [None] * 4


def test_agreement_on_scores_and_preferences(store: Store) -> None:
    ratings = [prefers("Ann", n, TUNED if n % 2 else BASE) for n in range(10)]
    ratings += [prefers("Ben", n, TUNED if n % 2 else BASE) for n in range(8)]
    ratings += [score("Ann", n, s, 4) for n in range(4) for s in SYSTEMS]
    ratings += [score("Ben", n, s, 4) for n in range(4) for s in SYSTEMS]
    found = summary(store, *ratings)["agreement"]
    assert found["preference"]["alpha"] == 1.0
    assert (found["preference"]["units"], found["preference"]["level"]) == (8, "nominal")
    assert found["scores"]["overall"]["alpha"] is None
    assert found["scores"]["overall"]["raw"] == 1.0
    assert "same" in found["scores"]["overall"]["reason"]


def test_a_second_look_counts_for_consistency_only(store: Store) -> None:
    ratings = [score("Ann", n, TUNED, 4) for n in range(4)]
    first = summary(store, *ratings)
    assert first["repeats"] is None
    again = [score("Ann", 0, TUNED, 4, turn=2), score("Ann", 1, TUNED, 1, turn=2)]
    again += [prefers("Ann", 0, BASE), prefers("Ann", 0, BASE, turn=2)]
    found = summary(store, *again)
    assert found["systems"] == first["systems"]
    assert found["repeats"] == {
        "scores": 2, "scores_equal": 0.5, "scores_within_1": 0.5,
        "preferences": 1, "preferences_equal": 1.0,
    }  # fmt: skip


def test_related_prompts_are_resampled_together(tmp_path: Path) -> None:
    _, store = begin(write_comparison(tmp_path, count=20))
    values = [5 if n < 10 else 1 for n in range(20)]
    alone = summary(store, *(score("Ann", n, TUNED, v) for n, v in enumerate(values)))
    file = tmp_path / "predictions.jsonl"
    rows = [
        dataclasses.replace(row, group=f"g{int(row.id[2:]) // 5}") for row in read_predictions(file)
    ]
    write_predictions(file, rows)
    grouped = summary(store)

    def width(found: dict[str, Any]) -> float:
        low, high = found["systems"][TUNED]["scores"]["overall"]["ci95"]
        return high - low

    assert width(grouped) > 1.5 * width(alone)


def test_a_rubric_may_have_any_names(tmp_path: Path) -> None:
    rubric = {"preference": "x", "comment": "y", "'; DROP TABLE": "z"}
    _, store = begin(write_comparison(tmp_path, rubric=rubric))
    ratings = [score("Ann", n, TUNED, 3, criterion=name) for name in rubric for n in range(3)]
    found = summary(store, *ratings)
    assert list(found["systems"][TUNED]["scores"]) == [*rubric, "overall"]
    assert all(found["systems"][TUNED]["scores"][name]["n"] == 3 for name in rubric)
    assert found["comments"] == 0
