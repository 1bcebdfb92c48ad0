"""Shares against scipy, and what several ratings of one prompt are worth."""

from __future__ import annotations

import random

import pytest
from scipy.stats import binomtest

from tuner.evaluation.proportion import effective_n, sign_test, wilson


@pytest.mark.parametrize(
    ("k", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (3, 7), (50, 80), (1, 999)]
)
def test_wilson_is_that_of_scipy(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx([expected.low, expected.high], abs=1e-12)


def test_nothing_has_no_interval() -> None:
    assert wilson(0, 0) is None
    assert sign_test(0, 0) is None


def test_the_sign_test_is_exact_and_two_sided() -> None:
    assert sign_test(5, 0) == pytest.approx(2 / 2**5)
    assert sign_test(0, 5) == sign_test(5, 0)
    assert sign_test(7, 3) == pytest.approx(2 * (1 + 10 + 45 + 120) / 2**10)
    assert sign_test(4, 4) == 1.0


def test_raters_who_always_agree_are_worth_one() -> None:
    values = [1.0, 0.0, 1.0, 1.0, 0.0] * 8
    alone = [str(n) for n in range(40)]
    assert effective_n(values, alone) == 40
    assert effective_n(values * 3, alone * 3) == pytest.approx(40)
    assert effective_n([1.0] * 80, alone * 2) == 40, "no variance: the cautious bound"
    assert effective_n([], []) == 0


def test_raters_who_toss_coins_are_worth_all_they_said() -> None:
    rng = random.Random(0)
    units = [str(n) for n in range(2000)] * 2
    values = [float(rng.random() < 0.3) for _ in units]
    assert effective_n(values, units) == pytest.approx(4000, rel=0.06)
    assert effective_n(values, units) <= 4000
