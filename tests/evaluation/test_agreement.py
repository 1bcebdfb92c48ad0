"""Krippendorff's alpha against the tables that its author published."""

from __future__ import annotations

import math

import pytest

from tuner.evaluation.agreement import agreement
from tuner.rating.store import Rating

# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section E ("any number of
# observers, missing data"): four observers, twelve units.
TABLE = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
# Sections A and B: two observers, binary data of ten units and nominal data of twelve.
BINARY = "0 1 0 0 0 0 0 0 1 0\n1 1 1 0 0 1 0 0 0 0"
NOMINAL = "a a b b d c c c e d d a\nb a b b b c c c e d d d"


def rated(table: str) -> list[Rating]:
    return [
        Rating(
            rater=str(rater), item=f"i{item}", turn=1, kind="score", criterion="x", system="s",
            value=value,
        )
        for rater, line in enumerate(table.strip().splitlines())
        for item, value in enumerate(line.split())
        if value != "."
    ]  # fmt: skip


def measure(table: str, domain: str, level: str) -> dict[str, object]:
    return agreement(rated(table), domain.split(), level, {f"i{n}": f"i{n}" for n in range(99)}, 0)


@pytest.mark.parametrize(
    ("table", "domain", "level", "alpha"),
    [
        (BINARY, "0 1", "nominal", 0.095),
        (NOMINAL, "a b c d e", "nominal", 0.692),
        (TABLE, "1 2 3 4 5", "nominal", 0.743),
        (TABLE, "1 2 3 4 5", "ordinal", 0.815),
    ],
)
def test_the_published_examples(table: str, domain: str, level: str, alpha: float) -> None:
    found = measure(table, domain, level)
    assert found["alpha"] == pytest.approx(alpha, abs=5e-4)
    assert found["ci95"] is not None
    low, high = found["ci95"]  # pyright: ignore
    assert low < alpha < high <= 1
    assert found["reason"] is None


def test_raw_agreement_counts_pairs() -> None:
    assert measure(NOMINAL, "a b c d e", "nominal")["raw"] == 9 / 12
    found = measure("1 1\n1 2\n2 .", "1 2 3 4 5", "ordinal")
    assert found["raw"] == 1 / (3 + 1), "of four pairs one is equal"
    assert found["units"] == 2


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("1 2 3", "no two raters"),
        ("1 2 . .\n. . 3 4", "no two raters"),
        ("", "no two raters"),
        ("4 4 4\n4 4 4", "all ratings are the same"),
        ("4 4 1\n4 4 .", "all ratings are the same"),  # the 1 has nothing beside it
    ],
)
def test_undefined_is_said_and_not_a_number(table: str, reason: str) -> None:
    found = measure(table, "1 2 3 4 5", "ordinal")
    assert found["alpha"] is None
    assert found["ci95"] is None
    assert reason in str(found["reason"])
    assert found["raw"] == (1.0 if "same" in reason else None)


def test_an_interval_needs_something_that_varies() -> None:
    one = measure("1\n2", "1 2 3 4 5", "ordinal")
    assert one["ci95"] is None
    assert "one prompt" in str(one["reason"])
    rare = measure("4 " * 20 + "1\n" + "4 " * 20 + "1", "1 2 3 4 5", "ordinal")
    assert rare["alpha"] == 1.0
    assert rare["ci95"] is None
    assert "vary too little" in str(rare["reason"])


def test_perfect_and_opposite() -> None:
    assert measure("1 2 3 4 5\n1 2 3 4 5", "1 2 3 4 5", "ordinal")["alpha"] == 1.0
    opposite = measure("1 5 1 5 1 5\n5 1 5 1 5 1", "1 2 3 4 5", "ordinal")["alpha"]
    assert isinstance(opposite, float)
    assert opposite < 0
    assert math.isfinite(opposite)
