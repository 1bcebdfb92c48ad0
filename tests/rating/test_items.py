"""Who sees which answer where: random, balanced, the same every time."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from pathlib import Path

import pytest
from comparisons import begin, write_comparison

from tuner.errors import UserError
from tuner.rating.items import arrange, rater_name


def test_orders_are_the_same_every_time_and_differ_between_raters_and_seeds(
    tmp_path: Path,
) -> None:
    study, _ = begin(write_comparison(tmp_path / "a", count=40))
    other, _ = begin(write_comparison(tmp_path / "b", count=40), seed=1)
    ann = arrange(study, "Ann")
    assert ann == arrange(study, "Ann")
    assert {item.id for item in ann} == set(study.items)
    assert [item.id for item in ann] != [item.id for item in arrange(study, "Ben")]
    assert [item.id for item in ann] != [item.id for item in arrange(other, "Ann")]
    sides = {item.id: item.systems for item in ann}
    assert any(sides[item.id] != item.systems for item in arrange(study, "Ben"))


@pytest.mark.parametrize("systems", [("x", "y"), ("x", "y", "z")])
def test_every_order_of_the_answers_comes_equally_often(
    systems: tuple[str, ...], tmp_path: Path
) -> None:
    study, _ = begin(write_comparison(tmp_path, count=36, systems=systems))
    succession: list[str] = []
    for rater in ("Ann", "Ben", "Cem"):
        items = arrange(study, rater)
        counts = Counter(item.systems for item in items)
        assert set(counts) == set(permutations(systems))
        assert set(counts.values()) == {36 // len(counts)}
        succession += [item.systems[0] for item in items]
    assert succession[::2] != succession[1::2], "no alternation that a rater could learn"


def test_repeats_come_last_and_are_arranged_anew(tmp_path: Path) -> None:
    study, _ = begin(write_comparison(tmp_path, count=40), repeats=20)
    items = arrange(study, "Ann")
    assert [item.turn for item in items] == [1] * 40 + [2] * 20
    first = {item.id: item.systems for item in items[:40]}
    assert len({item.id for item in items[40:]}) == 20
    assert any(first[item.id] != item.systems for item in items[40:])


def test_a_name_is_one_visible_line() -> None:
    assert rater_name("  Ann \n B.\t") == "Ann B."
    assert rater_name("Ann\u202e\x1b[31m\x00") == "Ann\\u202e\\x1b[31m\\x00"
    assert rater_name("e\u0301") == rater_name("\u00e9")
    for bad in ("", " \n ", "x" * 61):
        with pytest.raises(UserError):
            rater_name(bad)
