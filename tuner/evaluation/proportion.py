"""Shares with intervals, and wins against losses."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(successes: float, n: float) -> list[float] | None:
    """95 % interval of a share (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953).

    Args:
        successes: how many; may be fractional where `n` is an effective number.
        n: of how many.

    Returns:
        Low and high end; None for n = 0.
    """
    if n <= 0:
        return None
    share = successes / n
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # At the ends the formula is exact, but for rounding.
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == n else min(1.0, middle + half)
    return [low, high]


def effective_n(values: Sequence[float], units: Sequence[str]) -> float:
    """How many independent values these are worth, some of which are of the same unit.

    The number is divided by the design effect: the variance of the share as clusters have it, over
    that of as many independent values (Kish 1965). It never exceeds the number of values.

    Args:
        values: 0 or 1 each.
        units: for each value the unit that it belongs to.

    Returns:
        The number of values where each is of a unit of its own, fewer where units agree within.
    """
    n, clusters = len(values), len(set(units))
    share = sum(values) / n if n else 0.0
    if clusters == n:
        return float(n)
    if clusters < 2 or share in (0.0, 1.0):
        return float(clusters)  # nothing can be estimated: the cautious bound
    residuals: dict[str, float] = defaultdict(float)
    for value, unit in zip(values, units, strict=True):
        residuals[unit] += value - share
    clustered = sum(one**2 for one in residuals.values())
    return n / max(1.0, clustered / (n * share * (1 - share)))


def sign_test(wins: int, losses: int) -> float | None:
    """Two-sided exact p-value that wins and losses are equally likely; None without any."""
    if wins + losses == 0:
        return None
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue)
