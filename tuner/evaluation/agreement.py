"""How far raters agree: Krippendorff's alpha with an interval, and the raw share."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.evaluation.stats import interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tuner.rating.store import Rating

RESAMPLES = 1000  # alpha is computed anew for each
MOST_UNDEFINED = 0.05  # share of resamples without an alpha; with more there is no interval


def agreement(
    ratings: Iterable[Rating],
    domain: Sequence[str],
    level: str,
    groups: Mapping[str, str],
    seed: int,
) -> dict[str, Any]:
    """Krippendorff's alpha between raters, and the share of equal pairs of ratings.

    (Krippendorff 2011, https://repository.upenn.edu/asc_papers/43)

    Args:
        ratings: of one criterion, or preferences.
        domain: all values there can be, in order.
        level: `ordinal` or `nominal`.
        groups: for each item what is resampled as a whole.
        seed: of the resamples.

    Returns:
        `level`, `units` (things rated by two or more), `alpha`, `ci95`, `raw` (share of equal
        pairs) and `reason`: why alpha or its interval is null.
    """
    column = {value: place for place, value in enumerate(domain)}
    units: dict[tuple[str, str, str], list[int]] = {}
    for one in ratings:
        counts = units.setdefault((one.item, one.system, one.other), [0] * len(domain))
        counts[column[one.value]] += 1
    kept = sorted(key for key, counts in units.items() if sum(counts) >= 2)
    found: dict[str, Any] = {"level": level, "units": len(kept), "alpha": None, "ci95": None}
    found |= {"raw": None, "reason": None}
    if not kept:
        return found | {"reason": "no two raters have rated the same"}
    counts = np.array([units[key] for key in kept])
    n = counts.sum(axis=1)
    pairs = n * (n - 1)
    found["raw"] = float((counts * (counts - 1)).sum() / pairs.sum())
    if np.count_nonzero(counts.sum(axis=0)) < 2:
        return found | {
            "reason": "all ratings are the same, so agreement beyond chance is undefined"
        }
    found["alpha"] = _alpha(counts, level)
    clusters: dict[str, list[int]] = defaultdict(list)
    for place, (item, _, _) in enumerate(kept):
        clusters[groups[item]].append(place)
    low_high, reason = _alpha_interval(counts, [*clusters.values()], level, seed)
    return found | {"ci95": low_high, "reason": reason}


def _alpha(counts: NDArray[np.int_], level: str) -> float:
    import krippendorff

    used = counts[:, counts.any(axis=0)]  # unused values change no distance, but cost time
    return float(krippendorff.alpha(value_counts=used, level_of_measurement=level))  # pyright: ignore[reportArgumentType]


def _alpha_interval(
    counts: NDArray[np.int_], clusters: list[list[int]], level: str, seed: int
) -> tuple[list[float] | None, str | None]:
    if len(clusters) < 2:
        return None, "one prompt alone gives no interval"
    rng = np.random.default_rng(seed)
    values: list[float] = []
    for _ in range(RESAMPLES):
        drawn = [
            place
            for one in rng.integers(len(clusters), size=len(clusters))
            for place in clusters[one]
        ]
        sample = counts[drawn]
        if np.count_nonzero(sample.any(axis=0)) > 1:
            values.append(_alpha(sample, level))
    if len(values) < (1 - MOST_UNDEFINED) * RESAMPLES:
        return None, "ratings vary too little for an interval"
    low, high = interval(np.array(values))
    return [float(low), float(high)], None
