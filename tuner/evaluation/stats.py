"""Paired statistics on summed statistics: bootstrap, approximate randomisation, Holm.

A *unit* is what is drawn as a whole: an example, or a group of examples that are not independent of
each other. Resampling units is a matrix product of drawn counts with the units' statistics, so
systems that stand side by side in those statistics are always compared on the same draws.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from numpy.typing import NDArray

RESAMPLES = 10_000
CONFIDENCE = 0.95
_CELLS = 2**21  # of a weight matrix held at once: 16 MiB of float64
_NOISE = 1e-12  # rounding of the matrix products is orders of magnitude below this


def sum_by_group(
    statistics: NDArray[np.float64], groups: Sequence[Hashable]
) -> NDArray[np.float64]:
    """Adds up the statistics of each group, so that whole groups are resampled.

    Ignoring that examples of a group resemble each other makes intervals too narrow
    (https://arxiv.org/abs/2411.00640, section 2.2).

    Args:
        statistics: (n, ...) float64, one row per example.
        groups: n keys, equal for examples of one group.

    Returns:
        (units, ...) float64.
    """
    numbers: dict[Hashable, int] = {}
    unit = [numbers.setdefault(group, len(numbers)) for group in groups]
    summed = np.zeros((len(numbers), *statistics.shape[1:]))
    np.add.at(summed, unit, statistics)
    return summed


def bootstrap_totals(
    statistics: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Sums the statistics over bootstrap resamples of the units (https://aclanthology.org/W04-3250).

    Args:
        statistics: (units, ...) float64.
        resamples: number of resamples, each of as many units as there are, drawn with replacement.
        seed: of the draws.

    Returns:
        (resamples, ...) float64.
    """
    rng = np.random.default_rng(seed)
    units = len(statistics)

    def draw(rows: int) -> NDArray[np.float64]:
        drawn = rng.integers(units, size=(rows, units)) + np.arange(rows)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=rows * units)
        return counts.reshape(rows, units).astype(np.float64)

    return _weighted_totals(statistics, resamples, draw)


def swap_totals(
    differences: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Sums b - a over random halves of the units: what a gains when those units are swapped.

    Args:
        differences: (units, ...) float64, statistics of system b minus those of system a.
        resamples: number of random halves; every unit is swapped with probability 1/2.
        seed: of the draws.

    Returns:
        (resamples, ...) float64.
    """
    rng = np.random.default_rng([seed, 1])  # another stream than the bootstrap's
    units = len(differences)

    def draw(rows: int) -> NDArray[np.float64]:
        return rng.integers(2, size=(rows, units), dtype=np.uint8).astype(np.float64)

    return _weighted_totals(differences, resamples, draw)


def _weighted_totals(
    statistics: NDArray[np.float64],
    resamples: int,
    draw: Callable[[int], NDArray[np.float64]],
) -> NDArray[np.float64]:
    flat = statistics.reshape(len(statistics), math.prod(statistics.shape[1:]))
    step = max(1, _CELLS // len(statistics))
    chunks = [draw(min(step, resamples - start)) @ flat for start in range(0, resamples, step)]
    return np.concatenate(chunks).reshape(resamples, *statistics.shape[1:])


def interval(
    values: NDArray[np.float64], confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the percentile interval of resampled values.

    Args:
        values: (resamples, ...) float64.
        confidence: share of the resamples inside, from 0 to 1.

    Returns:
        Low and high end, (...) float64 each.
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0).round(12)
    return low, high


def bca_interval(
    values: NDArray[np.float64],
    value: float,
    left_out: NDArray[np.float64],
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Returns the bias-corrected and accelerated interval (Efron 1987, doi 10.2307/2289144).

    It moves the ends of the percentile interval by how far the resamples lie to one side of the
    value, and by how much single units bend it; so it is right for skewed values too.

    Args:
        values: (resamples,) float64, finite.
        value: of the set itself.
        left_out: (units,) float64, values of the set without one unit each.
        confidence: share of the intervals that cover the truth, from 0 to 1.

    Returns:
        Low and high end.
    """
    from scipy.special import ndtr, ndtri

    below = np.mean(values < value - _NOISE) + np.mean(np.abs(values - value) <= _NOISE) / 2
    # All resamples on one side, or there is one value or one unit only.
    if not 0 < below < 1 or len(left_out) < 2:
        low, high = interval(values, confidence)
        return float(low), float(high)
    bent = left_out.mean() - left_out
    spread = float((bent**2).sum())
    bend = float((bent**3).sum()) / (6 * spread**1.5) if spread > _NOISE**2 else 0.0
    bias = float(ndtri(below))
    tail = (1 - confidence) / 2
    moved = bias + ndtri(np.array([tail, 1 - tail]))
    low, high = np.quantile(values, ndtr(bias + moved / (1 - bend * moved))).round(12)
    return float(low), float(high)


def randomisation_p(delta: float, null: NDArray[np.float64]) -> float:
    """Returns the two-sided p-value of a difference (https://aclanthology.org/W05-0908).

    Args:
        delta: the difference seen.
        null: (resamples,) float64, differences after random swaps.

    Returns:
        (c + 1) / (resamples + 1), where c counts the differences at least as large as the one seen.
    """
    extreme = np.count_nonzero(np.abs(null) >= abs(delta) - _NOISE)
    return (int(extreme) + 1) / (len(null) + 1)


def detectable(differences: NDArray[np.float64]) -> float:
    """Estimates the true difference that a test at 5 % finds in 80 % of sets like this one.

    It is 1.96 + 0.84 standard errors (https://arxiv.org/abs/2411.00640, section 5).

    Args:
        differences: (resamples,) float64, of bootstrap resamples of the set.
    """
    from scipy.special import ndtri

    return float((ndtri(0.975) + ndtri(0.8)) * differences.std())


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for their number by Holm's step-down method (https://www.jstor.org/stable/4615733).

    Args:
        p_values: of one family of comparisons.

    Returns:
        Adjusted p-values in the same order; rejecting those below 0.05 keeps the chance of any
        false alarm below 5 %.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
