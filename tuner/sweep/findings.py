"""A sweep's results in sentences and tables, before any markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.evaluation.layout import (
    NOTHING,
    Cell,
    Table,
    count_of,
    signed,
    signed_span,
    span_of,
    value_of,
)
from tuner.evaluation.verdicts import Sentence
from tuner.sweep.definition import brief

Results = Mapping[str, Any]


def sentences(results: Results) -> list[Sentence]:
    """What is to be said before any table.

    Args:
        results: from `summarise`.
    """
    settings = results["settings"]
    seeds = len(results["definition"]["seeds"])
    said: list[Sentence] = []
    if settings and (loss := settings[0]["val_loss"]):
        interval = "" if loss["ci95"] is None else f", 95 % interval {span_of(loss['ci95'])}"
        said.append(
            Sentence(
                f"{_called(settings[0])} has the lowest validation loss",
                f"{value_of(loss['mean'])} nats a token (training seeds: {seeds}{interval})",
            )
        )
    else:
        said.append(Sentence("No setting has finished with all its seeds"))
    if lead := results["lead"]:
        by = f"{signed(lead['delta'])} nats a token"
        if lead["ci95"]:
            by += f" (95 % interval {signed_span(lead['ci95'])}, paired by seed)"
        clear = lead["ci95"] is not None and lead["ci95"][0] > 0
        text = "It is clearly ahead of" if clear else "It is not clearly ahead of"
        said.append(Sentence(f"{text} the next, {lead['over']}", f"the next has {by}"))
    if seeds == 1:
        said.append(
            Sentence("One seed a setting", "how far other training seeds would lie is not known")
        )
    if seeds > 1 and any(one["val_loss"] and not one["val_loss"]["ci95"] for one in settings):
        said.append(
            Sentence(
                "Runs of other seeds are the same",
                "nothing is drawn from seed_everything there, so they say nothing of other seeds",
            )
        )
    states = Counter(run["state"] for one in settings for run in one["runs"])
    rest = ", ".join(f"{n} {state}" for state, n in states.items() if state != "complete")
    if rest:
        said.append(
            Sentence(
                f"Not every run is complete ({rest})",
                "a setting counts with the mean over all its seeds, or not at all",
            )
        )
    if len(results["val_sets"]) > 1:
        said.append(
            Sentence(
                "The validation splits differ between settings",
                "so the losses are not of the same text and cannot be compared",
                "worse",
            )
        )
    return said


def settings_table(results: Results) -> Table:
    """A row for each setting, the best first: its loss and what it cost."""
    keys = list(results["definition"]["over"])
    words = [key.rsplit(".", 1)[-1] for key in keys]
    rows = [
        (
            Cell(one["name"], "chosen" if one["name"] in results["chosen"] else ""),
            *(Cell(brief(one["values"].get(key, NOTHING))) for key in keys),
            Cell(_seeds(one)),
            _loss(one["val_loss"]),
            *(Cell(_cost(one["costs"][key])) for key in ("training_seconds", "peak_memory_mib")),
            Cell(_cost(one["costs"]["trainable_params"]), _percent(one["costs"])),
        )
        for one in results["settings"]
    ]
    head = (
        *("setting", *(words if len(set(words)) == len(words) else keys), "seeds", "val_loss ↓"),
        *("training s", "peak MiB", "trained"),
    )
    return Table("Settings", head, rows, left=1 + len(keys))


def runs_table(results: Results) -> Table:
    """A row for each run of each setting."""
    rows = [
        (
            Cell(one["name"]),
            Cell("/".join(Path(run["run"] or NOTHING).parts[-2:]), run["host"] or ""),
            Cell(run["message"] or NOTHING),
            Cell(str(run["seed"])),
            Cell(run["state"]),
            Cell(value_of(run["val_loss"])),
            Cell(count_of(run["steps"])),
            *(Cell(_cost(run[key])) for key in ("training_seconds", "peak_memory_mib")),
        )
        for one in results["settings"]
        for run in one["runs"]
    ]
    head = (
        *("setting", "folder", "message", "seed", "state", "val_loss ↓"),
        *("steps", "training s", "peak MiB"),
    )
    return Table("Runs", head, rows, left=3)


def _called(setting: Mapping[str, Any]) -> str:
    values = ", ".join(f"{key} {brief(value)}" for key, value in setting["values"].items())
    return f"{setting['name']} ({values})"


def _seeds(setting: Mapping[str, Any]) -> str:
    runs: Sequence[Mapping[str, Any]] = setting["runs"]
    return f"{sum(run['state'] == 'complete' for run in runs)} of {len(runs)}"


def _loss(loss: Mapping[str, Any] | None) -> Cell:
    if loss is None:
        return Cell(NOTHING)
    return Cell(value_of(loss["mean"]), span_of(loss["ci95"]) if loss["ci95"] else "")


def _cost(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _percent(costs: Mapping[str, float | None]) -> str:
    percent = costs["trainable_percent"]
    return "" if percent is None else f"{percent:.4f} %"
