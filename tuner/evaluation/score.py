"""Scoring: predictions become values and summable statistics, one row per example."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tuner.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        metrics: the metric behind each key that is wanted, as `select_metrics` returns them. Of
            each, rows count that all systems have a value of.
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
    scores = {system: _score_system(answers, metrics) for system, answers in paired.items()}
    for key in metrics:
        _leave_out_unpaired([of[key] for of in scores.values()])
    columns: dict[str, slice] = {}
    width = 0
    for key in metrics:
        columns[key] = slice(width, width + scores[systems[0]][key].statistics.shape[1])
        width = columns[key].stop
    filled = {
        system: [
            replace(row, scores=_known({key: float(of[key].rows[i]) for key in metrics}))
            for i, row in enumerate(paired[system])
        ]
        for system, of in scores.items()
    }
    blocks = [
        np.hstack([np.empty((len(first), 0)), *(of[key].statistics for key in metrics)])
        for of in scores.values()
    ]
    groups = tuple(
        ("group", row.group) if clustered and row.group else ("id", row.id) for row in first
    )
    return Scored(systems, filled, dict(metrics), columns, np.stack(blocks, axis=1), groups)


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


def _leave_out_unpaired(systems: Sequence[Scores]) -> None:
    """Leaves out, for all, the rows of which some systems have a value and others have none.

    Values of different rows cannot be compared. A system without any value at all, such as a
    baseline's likelihood, has no say.
    """
    missing = [np.isnan(one.rows) for one in systems]
    having = [one for one, lost in zip(systems, missing, strict=True) if not lost.all()]
    out = np.any([lost for lost in missing if not lost.all()], axis=0) if having else None
    for one in having:
        one.rows[out] = np.nan
        one.statistics[out] = 0


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
