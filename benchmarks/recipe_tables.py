"""Tables of what the recipes gave on a small base; `tables.py` places them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cost_tables import RESULTS, markdown, where
from recipes import METRICS, RECIPES, published

HEAD = (
    "recipe",
    "rows: learned, tested",
    "trained",
    "val loss",
    "nats a token of the test replies: base → tuned (95 %)",
    "ROUGE-1",
    "BLEU",
    "seconds",
    "MiB",
    "commit",
    "published",
    "command",
)


def _results() -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """Name, published figures and result of each recipe; None where it has not been run."""
    for recipe in sorted(RECIPES.glob("*.yaml")):
        file = RESULTS / "recipes" / f"{recipe.stem}.json"
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        yield recipe.stem, published(recipe), found


def _change(evaluation: dict[str, Any], metric: str) -> str:
    base, tuned = evaluation["base"][metric]["value"], evaluation["tuned"][metric]
    low, high = tuned["ci95"]
    return f"{base:.3f} → {tuned['value']:.3f} ({low:.3f} to {high:.3f})"


def recipes() -> str:
    """One row a recipe, with the comparison on its own test split."""
    rows: list[tuple[str, ...]] = []
    machines: set[str] = set()
    for name, figures, found in _results():
        link = f"[{name}](../configs/recipes/{name}.yaml)"
        if found is None:
            rows.append((link, *("",) * (len(HEAD) - 3), figures, "not run yet"))
            continue
        machines.add(f"{found['base']}, {where(found)}")
        own, commit = found["evaluations"][0], found["commit"] or ""
        rows.append(
            (
                link,
                f"{found['rows']['train']:,}, {own['n']:,}",
                f"{found['trainable_percent']:.4f} %",
                f"{found['val_loss']:.3f}",
                *(_change(own, metric) for metric in ("nll", "rouge1", "bleu")),
                f"{found['training_seconds']:,.0f}",
                f"{found['peak_memory_mib']:,.0f}",
                f"`{commit[:7]}{commit[40:]}`",
                figures,
                f"`{found['command']}`",
            )
        )
    return "\n".join([f"Measured on {'; '.join(sorted(machines))}.", "", *markdown(HEAD, rows)])


def comparisons() -> str:
    """The other comparisons in the heads of the recipes: suites, and rows of another set."""
    head = ("command", "rows", "nats a token: base → tuned (95 %)", "ROUGE-1", "ROUGE-L", "BLEU")
    rows = [
        (
            f"`{one['command']}`",
            f"{one['source']}, {one['n']:,}",
            *(_change(one, metric) for metric in METRICS),
        )
        for _, _, found in _results()
        if found is not None
        for one in found["evaluations"][1:]
    ]
    return "\n".join(markdown(head, rows, left=2))
