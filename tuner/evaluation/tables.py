"""The tables of a report: which numbers stand side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.evaluation.layout import (
    FEW,
    NOTHING,
    Cell,
    Table,
    count_of,
    p_of,
    percent,
    signed,
    signed_span,
    span_of,
    value_of,
)
from tuner.evaluation.verdicts import verdict_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


HEADLINES = (
    *("bleu", "chrf", "rouge1", "rouge2", "rougeL"),
    *("accuracy", "macro_f1", "nll", "perplexity"),
)
KINDS = {
    "overlap": "Overlap with the reference",
    "label": "Labels",
    "likelihood": "Likelihood of the reference",
    "behaviour": "Behaviour",
    "tone": "Tone",
    "format": "Format",
}
_ARROWS = {True: " ↑", False: " ↓", None: ""}


def headline(results: Mapping[str, Any]) -> list[str]:
    """Keys of the metrics that people look for, the primary one first."""
    primary, known = results["primary_metric"], results["metric_info"]
    return [*filter(None, [primary]), *(k for k in HEADLINES if k in known and k != primary)]


def label_of(key: str, results: Mapping[str, Any]) -> str:
    """A metric's key with an arrow towards what is better."""
    return key + _ARROWS[results["metric_info"][key]["higher_is_better"]]


def summary(results: Mapping[str, Any]) -> Table:
    """A row for each system: size, the metrics that people look for, the waiting time."""
    keys = headline(results)
    rows = [
        (
            Cell(name),
            Cell(system["head"] or NOTHING),
            Cell(f"{system['trainable_percent']:.3f} %"),
            *_values(system, keys),
            Cell(value_of(_wait(system))),
        )
        for name, system in results["systems"].items()
    ]
    labels = [label_of(key, results) for key in keys]
    head = ("system", "head", "trainable", *labels, "seconds a reply ↓")
    return Table("Summary", head, rows, left=2)


def _wait(system: Mapping[str, Any]) -> float | None:
    alone = system["latency"].get("alone") or {}
    return next((one["p50"] for form in ("adapter", "model") if (one := alone.get(form))), None)


def _values(one: Mapping[str, Any], keys: Sequence[str]) -> list[Cell]:
    return [estimate(one["metrics"].get(key), one["ci95"].get(key)) for key in keys]


def estimate(value: float | None, ends: Sequence[float] | None) -> Cell:
    """A value with its interval behind it."""
    return Cell(value_of(value), "" if ends is None else span_of(ends))


def speed(results: Mapping[str, Any]) -> Table:
    """Waiting times of single prompts, and how replies end."""
    rows: list[tuple[Cell, ...]] = []
    for name, system in results["systems"].items():
        ends = [Cell(percent(system["stops"][key])) for key in ("eos", "length", "empty")]
        forms = system["latency"].get("alone") or {"": None}
        for place, (form, of) in enumerate(forms.items()):
            seconds = ("p50", "p95", "first_token_p50", "first_token_p95")
            pace = NOTHING if of is None else f"{of['new_tokens_per_second']:,.1f}"
            rows.append(
                (
                    Cell(name, form),
                    *(Cell(value_of(of[key] if of else None)) for key in seconds),
                    Cell(pace),
                    *(ends if place == 0 else [Cell("")] * 3),
                )
            )
    return Table(
        "Speed and endings",
        (
            *("system", "reply p50 (s)", "reply p95 (s)", "first token p50 (s)"),
            *("first token p95 (s)", "tokens/s", "ended", "cut", "empty"),
        ),
        rows,
    )


def by_kind(results: Mapping[str, Any]) -> list[Table]:
    """The metrics that the summary leaves out, those of one kind side by side."""
    shown = set(headline(results))
    groups: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for key, info in results["metric_info"].items():
        if key not in shown:
            groups.setdefault(info["kind"], []).append(key)
    return [
        Table(
            KINDS.get(kind, kind),
            ("system", *(label_of(key, results) for key in keys)),
            [(Cell(name), *_values(one, keys)) for name, one in results["systems"].items()],
        )
        for kind, keys in groups.items()
        if keys
    ]


def differences(results: Mapping[str, Any], family: str) -> Table:
    """The comparisons of one family."""
    rows: list[tuple[Cell, ...]] = []
    for one in results["comparisons"]:
        if one["family"] == family:
            verdict = verdict_of(one, results)
            rows.append(
                (
                    *(Cell(one[key]) for key in ("b", "a", "metric")),
                    Cell(signed(one["delta"])),
                    Cell(signed_span(one["ci95"])),
                    *(Cell(p_of(one[key])) for key in ("p", "p_holm")),
                    Cell(value_of(one["detectable"])),
                    Cell(verdict, tone=verdict),
                )
            )
    return Table(
        "Primary metric" if family == "primary" else "All other metrics",
        (
            *("system", "against", "metric", "difference", "95 % interval"),
            *("p", "p (Holm)", "detectable", "verdict"),
        ),
        rows,
        left=3,
    )


def slices(results: Mapping[str, Any]) -> list[Table]:
    """One table a slice and one row a value, by the primary metric."""
    primary, systems = results["primary_metric"], list(results["systems"])
    if primary is None:
        return []
    cells = [{"slice": "category", "value": c["category"], **c} for c in results["categories"]]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for one in [*cells, *results["slices"]]:
        row = found.setdefault(one["slice"], {}).setdefault(one["value"], {"n": one["n"]})
        row[one["system"]] = one
    return [
        Table(
            f"By {name}{_share(results, name, len(table))}",
            (name, "n", *systems),
            [
                (
                    Cell(value or "(none)"),
                    Cell(count_of(row["n"]), "few" if row["n"] < FEW else ""),
                    *(_values(row[s], [primary])[0] for s in systems),
                )
                for value, row in table.items()
            ],
        )
        for name, table in found.items()
    ]


def _share(results: Mapping[str, Any], name: str, shown: int) -> str:
    """What a title says when only the largest categories are shown."""
    every = results.get("category_count", shown) if name == "category" else shown
    return f": the {shown} largest of {count_of(every)}" if every > shown else ""
