"""A worker: takes one trial after the other until none is left, and says how far it is."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tuner.overview import number, text
from tuner.sweep.definition import Definition, brief
from tuner.sweep.fit import Outcome, Run, Verdict, run
from tuner.sweep.queue import MESSAGE, RESULT, Job, Queue

RENEW = 15  # seconds between two signs of life
IDLE = 2  # seconds between two looks for a trial, while others have the last ones
MOST_DEATHS = 3  # of a trial's process, after which the trial has failed
# What is taken from run.json.
NUMBERS = ("training_seconds", "peak_memory_mib", "trainable_params", "trainable_percent", "steps")
TEXTS = ("head", "base")
STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "killed": TrialState.FAIL,
}


class Line:
    """Progress in the terminal: one line that changes, and one that stays for each trial."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._shown = ""

    def show(self, text: str) -> None:
        """Change the line, where there is a terminal to change it in."""
        if self._live and text != self._shown:
            self._shown = text
            print(f"\r\033[K{text}", end="", flush=True)

    def keep(self, text: str) -> None:
        """Print a line that stays."""
        print(f"\r\033[K{text}" if self._live else text, flush=True)


class Watched:
    """What a worker does at each look at a run: renews its claim, reports, asks the pruner.

    Args:
        queue: where the trial is from.
        job: the trial.
        line: for the progress.
        title: of the trial.
        ask: ends the sweep if a signal has come.
    """

    def __init__(
        self, queue: Queue, job: Job, line: Line, title: str, ask: Callable[[], None]
    ) -> None:
        self._queue, self._job, self._line, self._title = queue, job, line, title
        self._ask = ask
        self._began = time.monotonic()
        self._renewed = float("-inf")
        self._last = ""

    def __call__(self, validations: Sequence[tuple[int, float]]) -> Verdict:
        """Look.

        Args:
            validations: the new ones: (step, nats a token).
        """
        self._ask()
        if time.monotonic() - self._renewed > RENEW:
            if not self._queue.renew(self._job):
                return "lost"
            self._renewed = time.monotonic()
        for step, loss in validations:
            self._last = f"step {step}, val_loss {loss:.4f}, "
            if step not in self._job.reported:  # by a run that was interrupted
                self._job.trial.report(loss, step)
                if self._job.trial.should_prune():
                    return "prune"
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        self._line.show(f"{self._title}: {self._last}{minutes}:{seconds:02}")
        return "go on"


def work(queue: Queue, definition: Definition, folder: Path, ask: Callable[[], None]) -> bool:
    """Run trials until all have ended, here or elsewhere.

    Args:
        queue: the trials.
        definition: of the sweep.
        folder: of the sweep on this machine.
        ask: ends the sweep if a signal has come; called where nothing is half done.

    Returns:
        Whether it is on this worker to sum up: it has ended the last trial, or found none to do.

    Raises:
        UserError: a recipe has changed meanwhile.
    """
    line, waits, found_none = Line(), False, not queue.unfinished()
    while True:
        ask()
        job = queue.claim()
        if job is not None:
            title = _title(queue, job)
            watch = Watched(queue, job, line, title, ask)
            outcome = run(_run(job, definition, folder), watch)
            line.keep(f"{title}: {_settle(queue, job, outcome)}")
            continue
        left = queue.unfinished()
        if not left:
            return found_none or queue.ended_here(max(queue.trials(), key=_ended))
        if not waits:
            line.keep(f"The other workers have all runs that are left ({left}); waiting for them")
        waits = True
        time.sleep(IDLE)


def _title(queue: Queue, job: Job) -> str:
    trials = queue.trials()
    shown = [(key.rsplit(".", 1)[-1], brief(value)) for key, value in job.setting.items()]
    values = " ".join(f"{key}={value}" for key, value in shown)
    done = sum(trial.state.is_finished() for trial in trials)
    return f"[{done + 1}/{len(trials)}] {values} seed={job.seed}"


def _run(job: Job, definition: Definition, folder: Path) -> Run:
    return Run(
        root=folder,
        name=job.name,
        seed=job.seed,
        arguments=definition.arguments(job.setting),
        output=folder / "output" / f"{job.name}-seed-{job.seed}.log",
    )


def _settle(queue: Queue, job: Job, outcome: Outcome) -> str:
    """Write down what became of a trial, and say it in words."""
    if outcome.state == "lost":
        return "another worker has taken it"
    message = outcome.message
    if outcome.state == "killed":
        if job.deaths + 1 < MOST_DEATHS:
            queue.put_back(job)
            return f"{message}; goes on later"
        message = f"{message} ({MOST_DEATHS} times)"
    loss = number(outcome.record.get("best"), "val_loss")
    result: dict[str, Any] = {key: number(outcome.record, key) for key in NUMBERS}
    result |= {key: text(outcome.record, key) for key in TEXTS}
    result |= {"host": socket.gethostname(), "val_sha256": None, "run": None}
    if outcome.folder is not None:
        result["run"] = str(outcome.folder)
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            card = json.loads((outcome.folder / "data_card.json").read_text(encoding="utf-8"))
            result["val_sha256"] = text(card["splits"]["val"], "sha256")
    complete = outcome.state == "complete"
    said = {RESULT: result, MESSAGE: message}
    queue.finish(job, STATES[outcome.state], loss if complete else None, said)
    if complete:
        return f"val_loss {loss:.4f}"
    return f"{outcome.state}: {message}" if message else outcome.state


def _ended(trial: FrozenTrial) -> float:
    return trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0
