"""What scores say of a set: values with intervals, and paired comparisons of systems."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.evaluation import stats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tuner.evaluation.score import Scored


@dataclass(frozen=True)
class Estimates:
    """Values of S systems on one set, on resamples of it, and without each of its units.

    Attributes:
        values: (S,) float64 under each key; NaN where a system has none.
        resampled: (resamples, S) float64 under each key; column by column the same resamples.
        left_out: (units, S) float64 under each key.
    """

    values: dict[str, NDArray[np.float64]]
    resampled: dict[str, NDArray[np.float64]]
    left_out: dict[str, NDArray[np.float64]]

    def system(self, index: int) -> dict[str, dict[str, Any]]:
        """Returns `metrics` and `ci95` of one system, as results.json shows them."""
        return {
            "metrics": {key: number(values[index]) for key, values in self.values.items()},
            "ci95": {key: self.interval(key, lambda of: of[..., index]) for key in self.values},
        }

    def interval(
        self, key: str, of: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> list[float] | None:
        """Returns the BCa interval of what `of` makes of the systems' values: (..., S) to (...).

        None where the set, or more than half of its resamples, have no value.
        """
        value = float(of(self.values[key]))
        drawn, left_out = of(self.resampled[key]), of(self.left_out[key])
        drawn, left_out = drawn[np.isfinite(drawn)], left_out[np.isfinite(left_out)]
        if not math.isfinite(value) or 2 * len(drawn) < len(self.resampled[key]):
            return None
        return list(stats.bca_interval(drawn, value, left_out))


def number(value: float) -> float | None:
    """Returns a value as JSON has it: null where there is none."""
    return float(value) if math.isfinite(value) else None


def estimate(scored: Scored, resamples: int = stats.RESAMPLES, seed: int = 0) -> Estimates:
    """Computes every system's values on the set and on bootstrap resamples of its groups."""
    units = stats.sum_by_group(scored.statistics, scored.groups)
    totals = units.sum(axis=0)
    return Estimates(
        values=scored.values(totals),
        resampled=scored.values(stats.bootstrap_totals(units, resamples, seed)),
        left_out=scored.values(totals - units),
    )


def compare(
    scored: Scored,
    estimates: Estimates,
    pairs: Sequence[tuple[str, str]],
    primary: str | None,
    resamples: int = stats.RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Compares pairs of systems under every key, as results.json shows it.

    Args:
        scored: the systems' statistics.
        estimates: of the same systems; their resamples give the intervals.
        pairs: names (a, b); differences are b - a.
        primary: the key that decides; its comparisons are a family of their own.
        resamples: number of random swaps behind a p-value.
        seed: of the swaps.

    Returns:
        A dict for each pair and key that both systems have a value of. `ci95` is the BCa interval.
        `p` is two-sided by paired approximate randomisation. `detectable` is the smallest true
        difference that a set like this one would mostly show. `p_holm` is adjusted for the
        comparisons of the same `family`: `primary`, or `secondary` for all other keys.
    """
    units = stats.sum_by_group(scored.statistics, scored.groups)
    totals = units.sum(axis=0)
    found: list[dict[str, Any]] = []
    for a, b in pairs:
        i, j = scored.systems.index(a), scored.systems.index(b)
        gained = stats.swap_totals(units[:, j] - units[:, i], resamples, seed)
        null = _differences(scored, totals[i] + gained, totals[j] - gained)
        for key, values in estimates.values.items():
            delta = float(values[j] - values[i])
            ends = estimates.interval(key, lambda of, i=i, j=j: of[..., j] - of[..., i])
            if ends is None:
                continue
            drawn = estimates.resampled[key]
            drawn = drawn[:, j] - drawn[:, i]
            drawn = drawn[np.isfinite(drawn)]
            found.append(
                {
                    "a": a,
                    "b": b,
                    "metric": key,
                    "family": "primary" if key == primary else "secondary",
                    "delta": delta,
                    "ci95": ends,
                    "ci95_percentile": [float(end) for end in stats.interval(drawn)],
                    "p": stats.randomisation_p(delta, null[key][np.isfinite(null[key])]),
                    "detectable": stats.detectable(drawn),
                    "n": sum(key in row.scores for row in scored.rows[b]),
                }
            )
    for family in ("primary", "secondary"):
        members = [one for one in found if one["family"] == family]
        adjusted = stats.holm([one["p"] for one in members])
        for one, p in zip(members, adjusted, strict=True):
            one["p_holm"] = p
    return found


def _differences(
    scored: Scored, a: NDArray[np.float64], b: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    values = scored.values(np.stack([a, b], axis=-2))
    return {key: both[..., 1] - both[..., 0] for key, both in values.items()}
