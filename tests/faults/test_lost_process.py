"""Processes of a run that are killed: the others end and say so, and the run can go on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.faults.conftest import Child, one_message
from tuner.checkpoint import load_checkpoint
from tuner.cli import main
from tuner.lost import lost_process

ENDLESS = ("--trainer.max_epochs=100000", "--checkpoint.every_n_steps=2", "--data.val_size=4")
STATED = 15  # seconds, in docs/devices.md
STARTING = 60  # seconds more for a process that is still importing
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}


def wait_for(there: Callable[[], object], alive: Callable[[], bool], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert alive(), "it has ended"
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def kill_a_loader(run: int, draw: random.Random) -> bool:
    """Kills a process that builds batches, which is a fork of the run; says whether one was there.

    Args:
        run: id of its process.
        draw: chooses it.
    """
    with suppress(psutil.Error):
        own = psutil.Process(run)
        forks = [one for one in own.children() if one.cmdline() == own.cmdline()]
        if len(forks) > 1:  # a single one is git, before it is that
            draw.choice(forks).kill()
            return True
    return False


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.soak)])
def test_a_killed_process_that_builds_batches_is_one_message_and_the_run_goes_on(
    command: Callable[..., list[str]],
    child: Callable[..., Child],
    tmp_path: Path,
    figures: Callable[..., None],
    kills: int,
) -> None:
    arguments = [*ENDLESS, "--data.num_workers=2"]
    draw, slowest, step = random.Random(kills), 0.0, 0
    for number in range(kills):
        again = ["--ckpt_path=last"] if number else []
        one = child(lambda again=again: main(command("fit", *arguments, *again)))
        last = tmp_path / "logs" / "run" / f"version_{number}" / "checkpoints" / "last.ckpt"
        wait_for(last.exists, one.process.is_alive)
        time.sleep(draw.uniform(0, 1.5) if number else 0)
        wait_for(lambda one=one: kill_a_loader(one.process.pid, draw), one.process.is_alive)
        killed = time.monotonic()
        assert one.wait() == 2, one.said
        slowest = max(slowest, time.monotonic() - killed)
        assert "data.num_workers: a process that builds batches has ended" in one_message(one.said)
        before, step = step, load_checkpoint(last)["global_step"]
        assert step >= before, "each goes on where the one before it was"
    more = [*arguments, "--ckpt_path=last", f"--trainer.max_steps={step + 2}"]
    assert main(command("fit", *more)) == 0
    figures(
        "faults", "a process that builds batches killed", kills,
        slowest_end_in_seconds=round(slowest, 1), goes_on=kills,
    )  # fmt: skip


def test_errors_of_other_kinds_are_left_alone() -> None:
    assert lost_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert lost_process(ValueError()) is None


@pytest.fixture
def two(command: Callable[..., list[str]], tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of a run on two processes, as Lightning starts them."""

    def build(*more: object) -> list[str]:
        devices = ("--trainer.devices=2", "--data.batch_size=2")
        return [sys.executable, "train.py", *command("fit", *ENDLESS, *devices, *more)]

    return build


@dataclass
class Pair:
    """A run on two processes."""

    process: subprocess.Popen[bytes]
    output: Path

    def running(self) -> bool:
        return self.process.poll() is None

    def second(self) -> list[psutil.Process]:
        """The process that the first one starts; it alone is told its rank."""
        found: list[psutil.Process] = []
        for one in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # gone meanwhile, such as git
                found += [one] if one.environ().get("LOCAL_RANK") == "1" else []
        return found

    def kill(self, rank: int, patience: float) -> float:
        """Kills one of them; the other one ends with one message.

        Returns:
            After how many seconds it had ended.
        """
        first, (other,) = psutil.Process(self.process.pid), self.second()
        killed, left = (first, other) if rank == 0 else (other, first)
        killed.send_signal(signal.SIGKILL)
        began = time.monotonic()
        if left is other:
            _, alive = psutil.wait_procs([left], patience)
            assert not alive, "it goes on"
        code = self.process.wait(patience)
        seconds = time.monotonic() - began
        said = self.output.read_text(encoding="utf-8", errors="replace")
        assert code == (-signal.SIGKILL if rank == 0 else 2)
        assert "trainer.devices: " in one_message(said)
        assert "--ckpt_path last goes on" in one_message(said)
        return seconds


@contextmanager
def started(command: list[str], output: Path) -> Generator[Pair]:
    """Starts a run on two processes; at the end, none of them is left."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=ALONE, stdout=file, stderr=file, start_new_session=True
        )
    try:
        pair = Pair(process, output)
        wait_for(pair.second, pair.running)
        yield pair
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.soak)])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("when", ["while it starts", "while it trains"])
def test_one_of_two_processes_is_killed(
    rank: int,
    when: str,
    kills: int,
    two: Callable[..., list[str]],
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    """At once in the short form; at a random instant of the seconds that follow in the long one."""
    draw, slowest = random.Random(kills), 0.0
    trains = when == "while it trains"
    patience = STATED + (0 if trains else STARTING)
    runs = tmp_path / "logs" / "run"
    for number in range(kills):
        again = ["--ckpt_path=last"] if trains and number else []
        with started(two(*again), tmp_path / f"output-{number}.txt") as pair:
            if trains:
                last = runs / f"version_{number}" / "checkpoints" / "last.ckpt"
                wait_for(last.exists, pair.running)
            time.sleep(draw.uniform(0, 3) if kills > 1 else 0)
            slowest = max(slowest, pair.kill(rank, patience))
    if trains:
        step = load_checkpoint(runs / f"version_{kills - 1}" / "checkpoints" / "last.ckpt")
        more = two("--ckpt_path=last", f"--trainer.max_steps={step['global_step'] + 2}")
        done = subprocess.run(more, cwd=ROOT, env=ALONE, capture_output=True, timeout=240)
        assert done.returncode == 0, done.stderr
    figures(
        "faults", f"process {rank} of 2 killed {when}", kills,
        other_ended_after_seconds_at_most=round(slowest, 1),
    )  # fmt: skip
