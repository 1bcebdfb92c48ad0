"""What a sweep has found, as plain data: a row for each setting, the best by validation loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from tuner.evaluation.seeds import mean_interval
from tuner.sweep.definition import Definition
from tuner.sweep.queue import MESSAGE, RESULT
from tuner.sweep.study import SEED, SETTING

SCHEMA = 1
COMPLETE = TrialState.COMPLETE
STATES = {
    COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
COSTS = ("training_seconds", "peak_memory_mib", "trainable_params", "trainable_percent")


def summarise(name: str, definition: Definition, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    """Sum up a sweep.

    A setting is known by its mean over all seeds; one of which a run was pruned or failed has none
    and cannot be the best: a mean over the runs that went well would flatter it.

    Args:
        name: of the sweep.
        definition: of the sweep.
        trials: all of them, in order.

    Returns:
        `settings` in the order of their `val_loss` (`mean`, `sd`, `ci95`; null for those without),
        each with its `values`, `costs` (means over the seeds, of memory the peak) and `runs`;
        `chosen` (names of the best), `lead` (of the first over the second, paired by seed) and
        `val_sets` (hashes of the validation splits, which are to be one).
    """
    count = len(definition.seeds)
    groups = [trials[start : start + count] for start in range(0, len(trials), count)]
    settings = sorted(map(_setting, groups), key=_mean)
    ranked = [one for one in settings if one["val_loss"]]
    return {
        "schema": SCHEMA,
        "name": name,
        "definition": definition.described(),
        "settings": settings,
        "chosen": [one["name"] for one in ranked[: definition.compare]],
        "lead": _lead(*ranked[:2]) if len(ranked) > 1 else None,
        "val_sets": sorted({r["val_sha256"] for s in settings for r in s["runs"]} - {None}),
    }


def _setting(trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    runs = [_run(trial) for trial in trials]
    losses = [run["val_loss"] for run in runs if run["state"] == "complete"]
    values: dict[str, Any] = {}
    for trial in trials:
        values = values or trial.params or trial.system_attrs.get("fixed_params", {})
    done = len(losses) == len(trials)
    return {
        "name": trials[0].user_attrs[SETTING],
        "values": values,
        "val_loss": {
            "mean": float(np.mean(losses)),
            "sd": float(np.std(losses, ddof=1)) if len(losses) > 1 else None,
            "ci95": mean_interval(losses),
        }
        if done
        else None,
        "costs": {key: _cost(key, runs) for key in COSTS},
        "runs": runs,
    }


def _run(trial: FrozenTrial) -> dict[str, Any]:
    result = trial.user_attrs.get(RESULT, {})
    return {
        "seed": trial.user_attrs[SEED],
        "state": STATES[trial.state],
        # Of a pruned run the last one.
        "val_loss": trial.value if trial.state in (COMPLETE, TrialState.PRUNED) else None,
        "message": trial.user_attrs.get(MESSAGE, ""),
        **{key: result.get(key) for key in (*COSTS, "steps", "val_sha256", "base", "host", "run")},
    }


def _cost(key: str, runs: Sequence[dict[str, Any]]) -> float | None:
    known = [run[key] for run in runs if run["state"] == "complete" and run[key] is not None]
    if not known:
        return None
    return float(max(known) if key == "peak_memory_mib" else np.mean(known))


def _mean(setting: dict[str, Any]) -> float:
    return setting["val_loss"]["mean"] if setting["val_loss"] else float("inf")


def _lead(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    pairs = zip(first["runs"], second["runs"], strict=True)  # the same seeds in the same order
    gains = [b["val_loss"] - a["val_loss"] for a, b in pairs]
    return {
        "over": second["name"],
        "delta": float(np.mean(gains)),
        "ci95": mean_interval(gains),
    }
