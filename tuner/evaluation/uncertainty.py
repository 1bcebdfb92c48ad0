"""Tables of what no interval of a metric covers: people's ratings and training seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.evaluation.layout import Cell, Table, count_of, p_of, percent, percents, value_of
from tuner.evaluation.tables import estimate, label_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SPREAD = ("mean", "sd", "min", "max")


def human(results: Mapping[str, Any]) -> list[Table]:
    """What people have said: success and means, preferences, agreement."""
    found = results["human"]
    if found is None or found["problem"]:
        return []
    criteria = list(next(iter(found["systems"].values()), {"scores": {}})["scores"])
    scores = [
        (
            Cell(name),
            _share(one["success"]["rate"], one["success"]["ci95"]),
            Cell(count_of(one["success"]["n"])),
            *(estimate(of["mean"], of["ci95"]) for of in one["scores"].values()),
        )
        for name, one in found["systems"].items()
    ]
    pairs = [
        (
            Cell(one["b"]),
            Cell(one["a"]),
            *(Cell(count_of(one[key])) for key in ("wins", "losses", "ties")),
            _share(one["win_rate"], one["ci95"]),
            *(Cell(p_of(one[key])) for key in ("p", "p_holm")),
        )
        for one in found["pairs"]
    ]
    agreed = {**found["agreement"]["scores"], "preference": found["agreement"]["preference"]}
    agreement = [
        (
            Cell(name),
            estimate(one["alpha"], one["ci95"]),
            Cell(percent(one["raw"])),
            Cell(one["reason"] or ""),
        )
        for name, one in agreed.items()
    ]
    head = ("system", f"success ({found['success_from']} or more)", "ratings", *criteria)
    return [
        Table("Scores from 1 to 5", head, scores),
        Table(
            "Preferences, prompt by prompt",
            (
                "system",
                "against",
                "wins",
                "losses",
                "ties",
                "win rate",
                "p (sign test)",
                "p (Holm)",
            ),
            pairs,
            left=2,
        ),
        Table(
            "Agreement of raters",
            ("criterion", "Krippendorff's alpha", "equal pairs", "remark"),
            agreement,
        ),
    ]


def _share(value: float | None, ends: Sequence[float] | None) -> Cell:
    return Cell(percent(value), "" if ends is None else percents(ends))


def spread(results: Mapping[str, Any]) -> list[Table]:
    """How far the seeds of a recipe lie apart, a table a recipe."""
    return [
        Table(
            f"{recipe}: {len(found['runs'])} runs",
            ("metric", "mean", "standard deviation", "lowest", "highest"),
            [
                (Cell(label_of(key, results)), *(Cell(value_of(one[k])) for k in _SPREAD))
                for key, one in found["metrics"].items()
            ],
        )
        for recipe, found in results["seeds"].items()
    ]
