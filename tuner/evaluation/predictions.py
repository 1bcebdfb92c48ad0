r"""Predictions: what every system wrote for every example, one JSON object a line.

A row of predictions.jsonl:

    {"system": "lora", "id": "d41d8cd9", "category": "REFUND", "prompt": "<|user|>\nWhere ...",
     "reference": "...", "prediction": "...", "stop_reason": "eos", "new_tokens": 41,
     "seconds": 0.8, "scores": {"rougeL": 0.41}, "group": "refund-status",
     "slices": {"sentiment": "negative", "seen": "clean"}}
"""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import socket
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from tuner.errors import UserError
from tuner.spreadsheet import MARK, guard
from tuner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

StopReason = Literal["eos", "length", "empty"]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One system's reply to one example.

    Attributes:
        system: name of the system, unique in a comparison.
        id: the example's stable id, the key by which systems are paired.
        category: slice that the example belongs to.
        prompt: the prompt as rendered for the model.
        reference: the expected reply.
        prediction: the reply, without special tokens.
        stop_reason: `eos` (the model ended), `length` (it was cut) or `empty` (it wrote nothing).
        new_tokens: number of generated tokens.
        seconds: seconds spent on this reply.
        scores: value under each metric's key; a key is missing where a metric has no value.
        group: examples of one group are not independent of each other; empty if the example stands
            alone.
        slices: other ways to part the examples than by category, such as `sentiment`, and the part
            that this example belongs to.
        question: the last thing that the user says, without the rendering.
        expects: what a suite or the data expects of the reply beside the reference: `decline` (yes
            or no) or `format` (docstring, email, json).
        reference_nll: nats that the model gives the whole reference; None when not measured.
        reference_tokens: tokens of the reference that these nats are of.
    """

    system: str
    id: str
    category: str
    prompt: str
    reference: str
    prediction: str
    stop_reason: StopReason
    new_tokens: int
    seconds: float
    scores: dict[str, float] = field(default_factory=dict[str, float])
    group: str = ""
    slices: dict[str, str] = field(default_factory=dict[str, str])
    question: str = ""
    expects: dict[str, str] = field(default_factory=dict[str, str])
    reference_nll: float | None = None
    reference_tokens: int = 0

    def __post_init__(self) -> None:
        """Checks what a file may have got wrong since it was written.

        Raises:
            ValueError: a value is of another type, or the stop reason is unknown.
        """
        for kinds, names in _KINDS.items():
            for name in names:
                value = getattr(self, name)
                if not isinstance(value, kinds) or isinstance(value, bool):
                    raise ValueError(f"{name} is {value!r:.80}")
        for name, kind in (("scores", (int, float)), ("slices", str), ("expects", str)):
            if not all(isinstance(value, kind) for value in getattr(self, name).values()):
                raise ValueError(f"{name} is {getattr(self, name)!r:.80}")
        if self.stop_reason not in get_args(StopReason):
            allowed = ", ".join(get_args(StopReason))
            raise ValueError(f"stop_reason is {self.stop_reason!r}; allowed: {allowed}")


_KINDS: dict[tuple[type, ...], tuple[str, ...]] = {
    (str,): ("system", "id", "category", "prompt", "reference", "prediction", "group", "question"),
    (int,): ("new_tokens", "reference_tokens"),
    (int, float): ("seconds",),
    (int, float, type(None)): ("reference_nll",),
    (dict,): ("scores", "slices", "expects"),
}


def write_predictions(path: Path, rows: Iterable[Prediction]) -> None:
    """Writes the rows as JSON lines; the file is there whole or not at all."""
    write_atomically(
        path, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    )


def write_table(path: Path, rows: Sequence[Prediction]) -> None:
    """Writes the rows as a CSV file for a spreadsheet, which shows each text and computes none.

    What cannot be seen stands as its escape; the exact texts are in predictions.jsonl.
    """
    metrics = list(dict.fromkeys(key for row in rows for key in row.scores))
    slices = list(dict.fromkeys(name for row in rows for name in row.slices))
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)  # whatever the delimiter of a spreadsheet
    before, behind = ("system", "id", "category"), ("stop_reason", "new_tokens", "seconds")
    texts = ("prompt", "reference", "prediction")
    head = [*before, *(f"slice {name}" for name in slices), *behind, *metrics, *texts]
    writer.writerow(guard(visible(name)) for name in head)
    for row in rows:
        cells = [*(getattr(row, name) for name in before), *map(row.slices.get, slices)]
        cells += [*(getattr(row, name) for name in behind), *map(row.scores.get, metrics)]
        cells += [getattr(row, name) for name in texts]
        writer.writerow(guard(visible(c)) if isinstance(c, str) else c for c in cells)
    write_atomically(path, MARK + text.getvalue())


def read_predictions(path: Path) -> list[Prediction]:
    """Reads the rows of a predictions.jsonl.

    Raises:
        UserError: a line is no prediction; the message gives file and line.
        OSError: the file cannot be read.
    """
    rows: list[Prediction] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(Prediction(**json.loads(line)))
            except (TypeError, ValueError, RecursionError) as error:
                raise UserError(f"{path}:{number} is not a prediction: {error}.") from error
    return rows


def write_atomically(path: Path, text: str) -> None:
    """Writes UTF-8 text so that a reader, or a crash, never sees half a file.

    The temporary file lies in the same folder, as a rename is atomic only within one file system.
    Those of processes of this machine that were killed go.
    """
    own = f".{path.name}.{socket.gethostname()}."
    for left in path.parent.glob(f"{glob.escape(own)}*.tmp"):
        if not _lives(left.name.removeprefix(own).removesuffix(".tmp")):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f"{own}{os.getpid()}.tmp")
    try:
        # A lone surrogate has no UTF-8 form; its backslash form is also its JSON escape.
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _lives(process: str) -> bool:
    """Whether there is a process of that id."""
    try:
        os.kill(int(process), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:  # another user's
        return True
    return True
