"""The run of one trial: `fit` in a process of its own, watched from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from tuner.errors import UserError
from tuner.hold import is_held
from tuner.overview import number
from tuner.runs import read_losses, read_record, versions_of, whole_checkpoint
from tuner.surroundings import PARENT

PROGRAM = (sys.executable, "-m", "tuner")
POLL = 0.5  # seconds between two looks at a run
PATIENCE = 120  # seconds that a run gets to save when it is stopped
TAIL = 65536  # bytes of the output that are searched for the last message
LONGEST = 500  # characters of that message

State = Literal["complete", "pruned", "failed", "killed", "lost"]
# What becomes of a run, asked at each look with the validations that are new.
Verdict = Literal["go on", "prune", "lost"]
Watch = Callable[[list[tuple[int, float]]], Verdict]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is to be run.

    Attributes:
        root: folder of the runs.
        name: of the setting.
        seed: of the run.
        arguments: command line of `fit`, without these three.
        output: file that takes what the run prints.
    """

    root: Path
    name: str
    seed: int
    arguments: list[str]
    output: Path

    def folders(self) -> list[Path]:
        """The run folders of this setting and seed, newest first; one for each interruption."""
        if not (self.root / self.name).is_dir():
            return []
        try:
            return [one for one in versions_of(self.root, self.name) if seed_of(one) == self.seed]
        except UserError:
            return []

    def command(self) -> list[str]:
        """The program and its arguments; goes on at the last checkpoint where there is one."""
        file = whole_checkpoint("last", self.folders())
        return [
            *PROGRAM,
            *self.arguments,
            f"--seed_everything={self.seed}",
            f"--name={self.name}",
            f"--trainer.default_root_dir={self.root}",
            *([f"--ckpt_path={file}"] if file else []),
        ]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        state: complete; pruned; failed, by a mistake or for lack of memory; killed by a signal,
            from which it may recover; or lost to another worker.
        message: why.
        record: its run.json, as far as it came.
        folder: its folder, if it came to have one.
    """

    state: State
    message: str = ""
    record: dict[str, Any] = field(default_factory=dict[str, Any])
    folder: Path | None = None


def run(one: Run, watch: Watch) -> Outcome:
    """Run a trial to its end, or until it is to be stopped.

    Args:
        one: the trial. If an earlier run of it has finished, nothing is run.
        watch: takes the new validations, (step, nats a token), and says what becomes of the run.

    Returns:
        How it ended.
    """
    done = one.folders()
    if done and read_record(done[0]).get("status") == "finished":
        watch(read_losses(done[0])["val"])
        return _ended(0, "", done[0])
    for folder in done[:1]:
        if _wait_for(folder, watch) == "lost":
            return Outcome(state="lost", folder=folder)
    one.output.parent.mkdir(parents=True, exist_ok=True)
    folder, seen, verdict, ended = None, 0, "go on", False
    with one.output.open("ab") as output:
        began = output.tell()
        with _process(one.command(), output) as process:
            while verdict == "go on" and not ended:
                ended = process.poll() is not None  # before the look, or the last lines are missed
                folder = folder or next((f for f in one.folders() if f not in done), None)
                found = read_losses(folder)["val"] if folder else []
                verdict = watch(found[seen:])
                seen = max(seen, len(found))
                if verdict == "go on" and not ended:
                    time.sleep(POLL)
    if verdict == "lost":
        return Outcome(state="lost", folder=folder)
    if verdict == "prune" and not ended:
        return Outcome(state="pruned", record=read_record(folder) if folder else {}, folder=folder)
    return _ended(process.returncode, _last_words(one.output, began), folder)


def _ended(code: int, message: str, folder: Path | None) -> Outcome:
    record = read_record(folder) if folder else {}
    if code < 0:
        known = {one.value: one.name for one in signal.Signals}  # but few of the real-time ones
        name = known.get(-code, f"signal {-code}")
        message = f"killed by {name}" + ("; out of memory?" if code == -signal.SIGKILL else "")
        return Outcome(state="killed", message=message, record=record, folder=folder)
    if code == 143:
        message = "stopped by SIGTERM from outside"
    elif code == 0 and number(record.get("best"), "val_loss") is None:
        code, message = 2, "no finite val_loss"
    state = "failed" if code else "complete"
    return Outcome(state=state, message=message if code else "", record=record, folder=folder)


@contextmanager
def _process(command: list[str], output: Any) -> Generator[subprocess.Popen[bytes]]:
    """A process that ends with this block, and soon after this process, however that ends."""
    # A trial is a run of its own, not a part of the job that the scheduler started.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=inherited | {PARENT: str(os.getpid())},
        start_new_session=True,  # Ctrl-C is for the sweep, which stops the run itself
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(folder: Path, watch: Watch) -> Verdict:
    """Wait until a run whose worker died has ended: it does so by itself, and saves first."""
    verdict: Verdict = "go on"
    for _ in range(int(PATIENCE / POLL)):
        if verdict == "lost" or not is_held(folder):
            break
        time.sleep(POLL)
        verdict = watch([])
    return verdict


def seed_of(folder: Path) -> int | None:
    """The seed of a run; null where there is none."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    return config.get("seed_everything") if isinstance(config, dict) else None


def _last_words(file: Path, began: int) -> str:
    """The message of a run that failed: what it calls an error, or else its last line."""
    with file.open("rb") as output:
        output.seek(max(began, file.stat().st_size - TAIL))
        said = output.read().decode("utf-8", "replace")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return next(iter([*errors[-1:], *lines[-1:]]), "")[:LONGEST]
