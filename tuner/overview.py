"""The key figures of every run under a folder, whatever state its files are in."""

from __future__ import annotations

import csv
import json
import sys
from contextlib import suppress
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

from tuner.hold import is_held
from tuner.runs import every_run, read_record

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, Any]


def overview(root: Path) -> list[Row]:
    """A row for each run; a value that its files do not give is null.

    Args:
        root: folder of the runs; comparisons are in its `compare/`.

    Returns:
        Rows with `name`, `version` (a number), `status` (that of run.json; `killed` where it says
        that a run goes on, but no process of this machine writes to it; `incomplete` without a
        whole run.json), `head`, `base`, `trainable_percent`, `steps`, `val_loss` (the best one),
        `tokens_per_second`, `peak_memory_mib`, `started`, and of the newest comparison `metric`
        (its primary one), `score` and `comparison` (its name).
    """
    scores = _scores(root / "compare")
    return [_row(folder) | scores.get(_key(folder), _NO_SCORE) for folder in every_run(root)]


_NO_SCORE = {"metric": None, "score": None, "comparison": None}


def _row(folder: Path) -> Row:
    record = read_record(folder)
    status = text(record, "status") or "incomplete"
    if status == "running" and not is_held(folder):
        status = "killed"
    if "steps" not in record:  # they are written at the end
        record |= _logged(folder)
    base = " ".join(filter(None, (text(record, "base"), text(record, "quantize"))))
    return {
        "name": folder.parent.name,
        "version": int(folder.name.removeprefix("version_")),
        "status": status,
        "head": text(record, "head"),
        "base": base or None,
        "trainable_percent": number(record, "trainable_percent"),
        "steps": number(record, "steps"),
        "val_loss": number(record.get("best"), "val_loss"),
        "tokens_per_second": number(record, "tokens_per_second"),
        "peak_memory_mib": number(record, "peak_memory_mib"),
        "started": _moment(record),
    }


def _logged(folder: Path) -> Row:
    """The steps and the lowest val_loss that metrics.csv has so far."""
    steps: list[int] = []
    losses: list[float] = []
    # A run that goes on may be writing the last line.
    with (
        suppress(OSError, ValueError, KeyError, TypeError, csv.Error),
        (folder / "metrics.csv").open(encoding="utf-8", newline="") as lines,
    ):
        for row in csv.DictReader(lines):
            steps.append(int(row["step"]) + 1)  # counted from 0
            if row["val_loss"]:
                losses.append(float(row["val_loss"]))
    losses = list(filter(isfinite, losses))
    return {"steps": max(steps, default=None), "best": {"val_loss": min(losses, default=None)}}


def _scores(folder: Path) -> dict[str, Row]:
    """What the newest comparison of each run says, by name and version of the run."""
    files = sorted(folder.glob("*/results.json"), key=lambda file: file.stat().st_mtime)
    found: dict[str, Row] = {}
    for file in files:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            results = json.loads(file.read_text(encoding="utf-8"))
            metric = results["primary_metric"]
            for system in results["systems"].values():
                score = number(system["metrics"], metric)
                if system.get("run") and score is not None:
                    row = {"metric": str(metric), "score": score, "comparison": file.parent.name}
                    found[str(system["run"])] = row
    return found


def _key(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def text(values: Any, key: str) -> str | None:
    """A text of a record; null where there is none, whatever the record is."""
    value = values.get(key) if isinstance(values, dict) else None
    return value if isinstance(value, str) else None


def _moment(record: Row) -> str | None:
    said = text(record, "started")
    with suppress(ValueError, OverflowError):  # no moment, or none that a clock can show
        if said is not None:
            datetime.fromisoformat(said).timestamp()
            return said
    return None


def number(values: Any, key: str) -> float | None:
    """A finite number of a record, likewise."""
    value = values.get(key) if isinstance(values, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    most = sys.float_info.max  # JSON has larger integers; NaN is within no bounds
    return value if -most <= value <= most else None
