"""Tables of where the numbers come from: the data, the metrics and the setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.evaluation.layout import Cell, Table, count_of
from tuner.evaluation.tables import label_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuner.evaluation.predictions import Prediction

_COUNTS = {"rows_in": "rows in", "rows_out": "rows out", "truncated": "trimmed"}
_RULES = ("prompt", "max_length", "val_size", "test_size", "seed")
_LEAKS = {
    "prompts_exact": "question letter for letter",
    "prompts_in_train": "question but for case and punctuation",
    "near_duplicates_in_train": "question as a near duplicate",
    "prompts_13gram": "13 words of the question in a row",
    "replies_in_train": "the same reply",
    "replies_13gram": "13 words of the reply in a row",
}


def card_tables(card: Mapping[str, Any] | None) -> list[Table]:
    """Source, what was left out, splits and leaks.

    Args:
        card: the content of a data_card.json; None where there is none.
    """
    if card is None:
        return []
    source = [(key, str(value)) for key, value in card.get("source", {}).items()]
    source += [(name, count_of(card[key])) for key, name in _COUNTS.items() if key in card]
    source += [(f"redacted, {key}", count_of(n)) for key, n in card.get("redacted", {}).items()]
    tokenizer, rules = card.get("tokenizer", {}), card.get("settings", {})
    source += [(f"tokenizer, {key}", str(value)) for key, value in tokenizer.items()]
    source += [(key, str(rules[key])) for key in _RULES if key in rules]
    dropped = [(reason, count_of(n)) for reason, n in card.get("dropped", {}).items()]
    keys = ("rows", "groups", "tokens", "supervised_tokens")
    splits = [
        (Cell(name), *(Cell(count_of(one.get(key))) for key in keys), Cell(one["sha256"][:12]))
        for name, one in card.get("splits", {}).items()
    ]
    leaks = card.get("leak_check", {})
    found = [(name, count_of(leaks.get(key))) for key, name in _LEAKS.items() if leaks]
    if leaks:
        found = [
            ("test rows", count_of(leaks["test_rows"])),
            ("of them contaminated", count_of(leaks["contaminated"])),
            *found,
        ]
    tables = [
        _pairs("Source", ("what", "value"), source, left=2),
        _pairs("Rejected rows", ("because", "rows"), dropped),
        Table("Splits", ("split", "rows", "groups", "tokens", "with loss", "sha256"), splits),
        _pairs("Test rows that training has seen", ("what", "rows"), found),
    ]
    return [table for table in tables if table.rows]


def _pairs(title: str, head: tuple[str, str], rows: list[tuple[str, str]], left: int = 1) -> Table:
    return Table(title, head, [(Cell(key), Cell(value)) for key, value in rows], left)


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
        said += "".join(
            f", {key.replace('_', ' ')} {str(one[key])[:12]}"
            for key in ("revision", "quantize", "base_sha256", "trained_sha256")
            if one.get(key)
        )
        batch = f", {one['latency']['seconds_per_example']:.3f} s a reply in batches of "
        rows.append((f"system, {name}", said + seed + batch + f"{one['latency']['batch_size']}"))
    rows += list(results["environment"].items())
    return Table("Setting", ("what", "value"), [(Cell(k), Cell(str(v))) for k, v in rows], left=2)
