"""The rows to look at first: the worst replies, and where training has made them worse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.evaluation.score import Scored

WORST = 5  # rows a system and metric


def worst(scored: Scored, systems: Sequence[str]) -> list[dict[str, Any]]:
    """Lists each system's worst rows by each metric that has a direction; ties go by id.

    Args:
        scored: the scored predictions.
        systems: whose rows are listed.

    Returns:
        Dicts of `system`, `metric`, `id` and `value`, the worst first.
    """
    return [
        {"system": system, "metric": key, "id": name, "value": value}
        for system in systems
        for key, sign in _directed(scored).items()
        for _, name, value in sorted(
            (sign * row.scores[key], row.id, row.scores[key])
            for row in scored.rows[system]
            if key in row.scores
        )[:WORST]
    ]


def losses(scored: Scored, base: str | None, systems: Sequence[str]) -> list[dict[str, Any]]:
    """Lists the rows that lose most against the base by each metric; ties go by id.

    Args:
        scored: the scored predictions.
        base: what the systems are compared with; None for no list.
        systems: whose rows are listed.

    Returns:
        Dicts of `system`, `metric`, `id`, `value`, `base` (the base's value) and `delta`, the
        largest loss first; rows that have not lost are left out.
    """
    if base is None:
        return []
    found: list[dict[str, Any]] = []
    for system in systems:
        both = list(zip(scored.rows[base], scored.rows[system], strict=True))
        for key, sign in _directed(scored).items():
            changes = sorted(
                (sign * (b.scores[key] - a.scores[key]), b.id, a.scores[key], b.scores[key])
                for a, b in both
                if key in a.scores and key in b.scores
            )
            found += [
                {"system": system, "metric": key, "id": name, "value": after, "base": before}
                | {"delta": after - before}
                for gain, name, before, after in changes[:WORST]
                if gain < 0
            ]
    return found


def _directed(scored: Scored) -> dict[str, int]:
    """1 for metrics whose high values are good, -1 for those whose low ones are."""
    return {
        key: 1 if metric.higher_is_better else -1
        for key, metric in scored.metrics.items()
        if metric.higher_is_better is not None
    }
