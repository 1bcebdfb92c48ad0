"""Scoring: predictions become values per example and per system, with intervals and comparisons."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.errors import UserError
from tuner.evaluation import stats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from tuner.evaluation.metric import Metric, Scores
    from tuner.evaluation.predictions import Prediction


@dataclass(frozen=True)
class Scored:
    """The same n examples, answered by each of S systems, with their statistics side by side.

    Attributes:
        systems: S names, in the order in which their predictions came.
        rows: for each system its n predictions with `scores` filled in, all in the same order of
            ids.
        metrics: the metric behind each key.
        columns: the columns of `statistics` that belong to each key.
        statistics: (n, S, k) float64, sufficient statistics of all keys.
        groups: n keys; examples with the same key are resampled together.
    """

    systems: tuple[str, ...]
    rows: dict[str, list[Prediction]]
    metrics: dict[str, Metric]
    columns: dict[str, slice]
    statistics: NDArray[np.float64]
    groups: tuple[tuple[str, str], ...]

    @property
    def predictions(self) -> list[Prediction]:
        """All rows, system after system: what predictions.jsonl holds."""
        return [row for system in self.systems for row in self.rows[system]]

    def values(self, totals: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Turns summed statistics, (..., S, k) float64, into (..., S) float64 under each key."""
        return {
            key: self.metrics[key].corpus(key, totals[..., columns])
            for key, columns in self.columns.items()
        }

    def subset(self, keep: Sequence[int]) -> Scored:
        """Returns the same systems on some of the examples, given by position."""
        return replace(
            self,
            rows={system: [rows[i] for i in keep] for system, rows in self.rows.items()},
            statistics=self.statistics[list(keep)],
            groups=tuple(self.groups[i] for i in keep),
        )


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


def applicable(metrics: Mapping[str, Metric], rows: Sequence[Prediction]) -> dict[str, Metric]:
    """Leaves out metrics that say nothing about the replies of any system.

    Args:
        metrics: the metric behind each key.
        rows: every system's predictions.
    """
    by_system: dict[str, list[Prediction]] = {}
    for row in rows:
        by_system.setdefault(row.system, []).append(row)
    answered = all(row.reference.strip() for row in rows)

    def applies(metric: Metric) -> bool:
        return (answered or not metric.needs_reference) and any(
            metric.applies(own) for own in by_system.values()
        )

    kept = {id(metric) for metric in set(metrics.values()) if applies(metric)}
    return {key: metric for key, metric in metrics.items() if id(metric) in kept}


def score(
    rows: Sequence[Prediction], metrics: Mapping[str, Metric], *, clustered: bool = True
) -> Scored:
    """Scores the predictions of several systems.

    Args:
        rows: every system's predictions, in any order.
        metrics: the metric behind each key that is wanted, as `select_metrics` returns them.
        clustered: whether examples of one group are resampled together; otherwise each stands
            alone.

    Raises:
        ValueError: there are no rows, systems differ in their ids or references, or a metric gives
            a value that is infinite or not one an example.
        UserError: an example has no reference and a metric needs one.
    """
    paired = _pair(rows)
    systems = tuple(paired)
    first = paired[systems[0]]
    if any(metric.needs_reference for metric in metrics.values()):
        _check_references(first)
    blocks: list[NDArray[np.float64]] = []
    filled: dict[str, list[Prediction]] = {}
    columns: dict[str, slice] = {}
    for system, answers in paired.items():
        scores = _score_system(answers, metrics)
        filled[system] = [
            replace(row, scores=_known({key: float(scores[key].rows[i]) for key in metrics}))
            for i, row in enumerate(answers)
        ]
        width = 0
        for key in metrics:
            columns[key] = slice(width, width + scores[key].statistics.shape[1])
            width = columns[key].stop
        blocks.append(
            np.hstack([np.empty((len(answers), 0)), *(scores[key].statistics for key in metrics)])
        )
    groups = tuple(
        ("group", row.group) if clustered and row.group else ("id", row.id) for row in first
    )
    return Scored(systems, filled, dict(metrics), columns, np.stack(blocks, axis=1), groups)


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
                    "n": len(scored.groups),
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


def _pair(rows: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """Brings every system's rows into the order of the first system's ids."""
    if not rows:
        raise ValueError("there are no predictions to score")
    by_system: dict[str, dict[str, Prediction]] = {}
    for row in rows:
        answers = by_system.setdefault(row.system, {})
        if row.id in answers:
            raise ValueError(f"system {row.system!r} has two predictions for id {row.id!r}")
        answers[row.id] = row
    (first, expected), *others = by_system.items()
    for system, answers in others:
        unpaired = sorted(answers.keys() ^ expected.keys())
        if unpaired:
            raise ValueError(
                f"systems {first!r} and {system!r} did not answer the same examples: "
                f"{len(unpaired)} ids are in only one of them, first {unpaired[0]!r}"
            )
        for name in expected:
            if answers[name].reference != expected[name].reference:
                raise ValueError(
                    f"systems {first!r} and {system!r} have different references for id {name!r}"
                )
    return {system: [answers[name] for name in expected] for system, answers in by_system.items()}


def _check_references(rows: Sequence[Prediction]) -> None:
    blank = [row.id for row in rows if not row.reference.strip()]
    if blank:
        raise UserError(
            f"{len(blank)} of {len(rows)} examples have no reference reply, first '{blank[0]}': "
            "add one to each, or choose metrics that need none."
        )


def _known(scores: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in scores.items() if not math.isnan(value)}


def _score_system(rows: Sequence[Prediction], metrics: Mapping[str, Metric]) -> dict[str, Scores]:
    scores: dict[str, Scores] = {}
    for metric in {id(metric): metric for metric in metrics.values()}.values():  # keys may share it
        scores |= metric.score(rows)
    for key in metrics:
        found = scores[key]
        shaped = found.rows.shape == (len(rows),) and len(found.statistics) == len(rows)
        if not shaped or np.isinf(found.rows).any() or not np.isfinite(found.statistics).all():
            raise ValueError(
                f"metric {key!r} does not give each of {len(rows)} examples a finite value or NaN"
            )
    return scores
