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
    percents,
    signed,
    signed_span,
    span_of,
    value_of,
)
from tuner.evaluation.verdicts import verdict_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuner.evaluation.predictions import Prediction

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
    return [_estimate(one["metrics"].get(key), one["ci95"].get(key)) for key in keys]


def _estimate(value: float | None, ends: Sequence[float] | None) -> Cell:
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
            f"By {name}",
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
            *(_estimate(of["mean"], of["ci95"]) for of in one["scores"].values()),
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
            _estimate(one["alpha"], one["ci95"]),
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


_SPREAD = ("mean", "sd", "min", "max")


def metrics(results: Mapping[str, Any], rows: Sequence[Prediction]) -> Table:
    """How each metric was computed, and for how many rows of each system it has a value."""
    signatures = next(iter(results["systems"].values()))["signatures"]
    counts = {
        key: [
            sum(key in row.scores for row in rows if row.system == name)
            for name in results["systems"]
        ]
        for key in signatures
    }
    return Table(
        "Metrics",
        ("metric", "signature", "after", "rows with a value"),
        [
            (
                Cell(label_of(key, results)),
                Cell(signature),
                Cell(results["metric_info"][key]["paper"]),
                Cell(" to ".join(dict.fromkeys(map(str, (min(counts[key]), max(counts[key])))))),
            )
            for key, signature in signatures.items()
        ],
        left=3,
    )


def settings(results: Mapping[str, Any]) -> Table:
    """Everything else that a comparison was made with."""
    test_set, drawn = results["test_set"], results["resampling"]
    rows = [(f"test set, {key}", value) for key, value in test_set.items()]
    rows += [(f"decoding, {key}", value) for key, value in results["decoding"].items()]
    rows += [("resampling", f"{drawn['resamples']} resamples of {drawn['units']} units")]
    rows += [("seed", results["seed"])]
    for name, one in results["systems"].items():
        said = f"base {one['base']}, {one['trainable_params']:,} trainable parameters"
        seed = "" if one["seed"] is None else f", training seed {one['seed']}"
        batch = f", {one['latency']['seconds_per_example']:.3f} s a reply in batches of "
        rows.append((f"system, {name}", said + seed + batch + f"{one['latency']['batch_size']}"))
    rows += list(results["environment"].items())
    return Table("Setting", ("what", "value"), [(Cell(k), Cell(str(v))) for k, v in rows], left=2)
