"""results.json: everything a report shows about a comparison, as plain data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.evaluation import stats
from tuner.evaluation.estimate import compare, estimate
from tuner.evaluation.predictions import write_atomically
from tuner.evaluation.reading import SCHEMA
from tuner.evaluation.seeds import spread
from tuner.evaluation.worst import losses, worst

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tuner.evaluation.predictions import Prediction
    from tuner.evaluation.score import Scored

MOST_CELLS = 50  # values of a slice; one with more is no slice but a name


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a comparison was made with; it is written down as it is.

    Attributes:
        test_set: `n` (examples), `sha256` and `source`.
        systems: for each system `base`, `head`, `trainable_params`, `trainable_percent`,
            `batch_size`, `recipe` (what runs of several seeds share), `seed` and `baseline`
            (whether it was not trained here and is there to be beaten); whatever else tells which
            weights these are is kept as it is.
        decoding: how replies were generated.
        seed: of generation, of the statistics and of the examples that reports draw.
        command: what was typed.
        environment: versions and hardware.
        suite: name, description, rubric and hash of the curated prompts; None for other rows.
    """

    test_set: Mapping[str, Any]
    systems: Mapping[str, Mapping[str, Any]]
    decoding: Mapping[str, Any]
    seed: int
    command: str
    environment: Mapping[str, Any]
    suite: Mapping[str, Any] | None = None


def build_results(
    scored: Scored,
    setting: Setting,
    *,
    base: str | None = None,
    primary: str | None = None,
    resamples: int = stats.RESAMPLES,
) -> dict[str, Any]:
    """Computes values, intervals, comparisons, slices and worst cases of a comparison.

    Args:
        scored: the scored predictions.
        setting: what they were made with.
        base: the system that the others are compared with; by default the one named `base`, if
            there is one.
        primary: the metric that the verdict rests on; by default accuracy where
            references are labels, else rougeL, else the first one.
        resamples: number of bootstrap resamples and of random swaps.

    Returns:
        The content of results.json.

    Raises:
        ValueError: systems, base, primary metric or size of the test set do not fit the
            predictions.
    """
    base = base or ("base" if "base" in scored.systems else None)
    usual = (key for key in ("accuracy", "rougeL") if key in scored.metrics)
    primary = primary or next(usual, next(iter(scored.metrics), None))
    _check(scored, setting, base, primary)
    estimates = estimate(scored, resamples, setting.seed)
    first = scored.rows[scored.systems[0]]
    described = setting.systems
    rivals = [s for s in scored.systems if s == base or described[s]["baseline"]]
    tuned = [system for system in scored.systems if system not in rivals]
    # What was not trained is compared with what was; seeds of one recipe are no rivals.
    pairs = [(a, b) for a in rivals for b in tuned or rivals[1:] if a != b]
    pairs += [
        (a, b)
        for a, b in combinations(tuned, 2)
        if not described[a]["recipe"] or described[a]["recipe"] != described[b]["recipe"]
    ]
    signatures = {key: metric.signatures()[key] for key, metric in scored.metrics.items()}
    return {
        "schema": SCHEMA,
        "command": setting.command,
        "environment": dict(setting.environment),
        "decoding": dict(setting.decoding),
        "seed": setting.seed,
        "test_set": dict(setting.test_set),
        "base": base,
        "primary_metric": primary,
        "metric_info": {
            key: {
                "kind": metric.kind,
                "higher_is_better": metric.higher_is_better,
                "paper": metric.paper,
            }
            for key, metric in scored.metrics.items()
        },
        "suite": setting.suite and dict(setting.suite),
        "resampling": {
            "method": "bca",
            "confidence": stats.CONFIDENCE,
            "resamples": resamples,
            "units": len(set(scored.groups)),
        },
        "systems": {
            system: _system(scored.rows[system], setting.systems[system])
            | estimates.system(index)
            | {"signatures": signatures}
            for index, system in enumerate(scored.systems)
        },
        "comparisons": compare(scored, estimates, pairs, primary, resamples, setting.seed),
        "categories": [
            {"category": one.pop("value"), **one}
            for one in _cells(scored, [row.category for row in first], resamples, setting.seed)
        ],
        "category_count": len({row.category for row in first}),
        "slices": _slices(scored, resamples, setting.seed),
        "seeds": spread(
            {system: described[system]["recipe"] for system in tuned}, estimates, scored.systems
        ),
        "worst": worst(scored, tuned),
        "losses": losses(scored, base, tuned),
        "human": None,
    }


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Writes results.json; the file is there whole or not at all.

    Raises:
        ValueError: a number is not finite.
    """
    write_atomically(
        path, json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


def _check(scored: Scored, setting: Setting, base: str | None, primary: str | None) -> None:
    if set(scored.systems) != set(setting.systems):
        raise ValueError(
            f"predictions are of {sorted(scored.systems)}, the systems described are "
            f"{sorted(setting.systems)}"
        )
    if base is not None and base not in scored.systems:
        raise ValueError(f"the base {base!r} is not among the systems {sorted(scored.systems)}")
    if primary is not None and primary not in scored.metrics:
        raise ValueError(f"the primary metric {primary!r} is not among {sorted(scored.metrics)}")
    if len(scored.groups) != setting.test_set["n"]:
        raise ValueError(
            f"the test set has {setting.test_set['n']} examples, the predictions "
            f"cover {len(scored.groups)}"
        )


def _system(rows: Sequence[Prediction], described: Mapping[str, Any]) -> dict[str, Any]:
    seconds = np.array([row.seconds for row in rows])
    tokens = sum(row.new_tokens for row in rows)
    return {key: value for key, value in described.items() if key != "batch_size"} | {
        "latency": {
            "seconds_per_example": float(seconds.mean()),
            "p50": float(np.percentile(seconds, 50)),
            "p95": float(np.percentile(seconds, 95)),
            "new_tokens_per_second": tokens / float(seconds.sum()) if seconds.any() else 0.0,
            "batch_size": described["batch_size"],
        },
        "stops": {
            reason: sum(row.stop_reason == reason for row in rows) / len(rows)
            for reason in ("eos", "length", "empty")
        },
    }


def _cells(
    scored: Scored, values: Sequence[str], resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Each system's figures on the examples of each value, one of which every example has.

    Of very many values, such as a title of each example's own, those that most examples have.
    """
    positions: dict[str, list[int]] = {}
    for index, value in enumerate(values):
        positions.setdefault(value, []).append(index)
    largest = sorted(positions, key=lambda value: (-len(positions[value]), value))[:MOST_CELLS]
    found: list[dict[str, Any]] = []
    for value in sorted(largest):
        estimates = estimate(scored.subset(positions[value]), resamples, seed)
        found.extend(
            {"value": value, "n": len(positions[value]), "system": system} | estimates.system(index)
            for index, system in enumerate(scored.systems)
        )
    return found


def _slices(scored: Scored, resamples: int, seed: int) -> list[dict[str, Any]]:
    """The figures by every other slice that parts the examples at all."""
    first = scored.rows[scored.systems[0]]
    found: list[dict[str, Any]] = []
    for name in dict.fromkeys(name for row in first for name in row.slices):
        values = [row.slices.get(name, "") for row in first]
        if 1 < len(set(values)) <= MOST_CELLS:
            found += [{"slice": name, **one} for one in _cells(scored, values, resamples, seed)]
    return found
