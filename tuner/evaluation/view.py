"""What a report shows of a comparison, selected and ordered; nothing is escaped yet."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from tuner.evaluation import tables
from tuner.evaluation.layout import FEW, Cell, Table, signed, value_of
from tuner.evaluation.provenance import card_tables, metrics, settings
from tuner.evaluation.uncertainty import human, spread
from tuner.evaluation.verdicts import sentences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuner.evaluation.predictions import Prediction

    Rows = Mapping[tuple[str, str], Prediction]

EXAMPLES = 3
_SHOWN = 1500  # characters of a text
_EXCERPT = 240  # characters of a text in a table


def build_view(results: Mapping[str, Any], predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Selects and orders what a report shows.

    Args:
        results: the content of results.json.
        predictions: the rows of predictions.jsonl.

    Returns:
        What the templates lay out: `title`, `verdicts`, tables by section, `examples`, and the
        `worst` rows and largest `losses` by the primary metric.
    """
    base, primary, systems = results["base"], results["primary_metric"], results["systems"]
    rows = {(row.system, row.id): row for row in predictions}
    tuned = [name for name in systems if name != base and not systems[name]["baseline"]]
    ids = sorted({row.id for row in predictions})
    drawn = random.Random(results["seed"]).sample(ids, min(EXAMPLES, len(ids)))
    named = ", ".join(tuned or [name for name in systems if name != base])
    return {
        "results": results,
        "title": named + (f" against {base}" if named and base else "") or base,
        "primary": primary,
        "suite": results.get("suite"),
        "human": results["human"],
        "few": FEW,
        "verdicts": sentences(results),
        "summary": tables.summary(results),
        "speed": tables.speed(results),
        "kinds": tables.by_kind(results),
        "differences": tables.differences(results, "primary"),
        "further": tables.differences(results, "secondary"),
        "spread": spread(results),
        "ratings": human(results),
        "slices": tables.slices(results),
        "card": card_tables(results.get("data_card")),
        "metrics": metrics(results, predictions),
        "settings": settings(results),
        "examples": [_example(name, list(systems), rows) for name in drawn],
        "worst": _cases(results["worst"], results, rows),
        "losses": _cases(results["losses"], results, rows),
    }


def clip(text: str, limit: int = _SHOWN) -> str:
    """Cuts out the middle of a text longer than `limit` characters and says how much is missing."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def other_cases(
    results: Mapping[str, Any], predictions: Sequence[Prediction]
) -> list[tuple[str, list[Table]]]:
    """Worst rows and largest losses by every metric but the primary one, with excerpts.

    Returns:
        A metric's label and its tables.
    """
    rows = {(row.system, row.id): row for row in predictions}
    found: list[tuple[str, list[Table]]] = []
    for key in results["metric_info"]:
        if key == results["primary_metric"]:
            continue
        worst = [one for one in results["worst"] if one["metric"] == key]
        losses = [one for one in results["losses"] if one["metric"] == key]
        shown = [
            _excerpts(title, cases, rows)
            for title, cases in (("Worst", worst), ("Largest losses against the base", losses))
            if cases
        ]
        if shown:
            found.append((tables.label_of(key, results), shown))
    return found


def _excerpts(title: str, cases: Sequence[Mapping[str, Any]], rows: Rows) -> Table:
    found: list[tuple[Cell, ...]] = []
    for one in cases:
        row = rows[one["system"], one["id"]]
        change = f"{value_of(one['base'])} before" if "base" in one else ""
        texts = (row.question or row.prompt, row.reference, row.prediction)
        found.append(
            (
                Cell(one["system"]),
                Cell(one["id"]),
                *(Cell(clip(text, _EXCERPT)) for text in texts),
                Cell(value_of(one["value"]), change),
            )
        )
    head = ("system", "example", "prompt", "reference", "reply", "value")
    return Table(title, head, found, left=5)


def _cases(
    cases: Sequence[Mapping[str, Any]], results: Mapping[str, Any], rows: Rows
) -> list[dict[str, Any]]:
    """Rows by the primary metric, with what the base wrote beside them."""
    base = [results["base"]] if results["base"] else []
    return [
        {
            "system": one["system"],
            "id": one["id"],
            "change": _change(one),
            **_example(one["id"], [*base, one["system"]], rows),
        }
        for one in cases
        if one["metric"] == results["primary_metric"]
    ]


def _change(one: Mapping[str, Any]) -> str:
    value = value_of(one["value"])
    return (
        f"{value_of(one['base'])} to {value} ({signed(one['delta'])})" if "base" in one else value
    )


def _example(name: str, systems: Sequence[str], rows: Rows) -> dict[str, Any]:
    replies = [rows[system, name] for system in systems]
    return {"first": replies[0], "replies": replies}
