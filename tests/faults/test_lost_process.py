"""Processes of a run that are killed: the others end and say so, and the run can go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
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


def wait_for(there: Callable[[], object], alive: Callable[[], bool], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert alive(), "it has ended"
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def test_a_killed_process_that_builds_batches_is_one_message_and_the_run_goes_on(
    command: Callable[..., list[str]], child: Callable[..., Child], tmp_path: Path
) -> None:
    workers = ("--data.num_workers=2",)
    one = child(lambda: main(command("fit", *ENDLESS, *workers)))
    last = tmp_path / "logs" / "run" / "version_0" / "checkpoints" / "last.ckpt"
    wait_for(last.exists, one.process.is_alive)
    psutil.Process(one.process.pid).children()[0].kill()
    assert one.wait() == 2
    assert "data.num_workers: a process that builds batches has ended" in one_message(one.said)
    step = load_checkpoint(last)["global_step"]
    more = [*ENDLESS, *workers, "--ckpt_path=last", f"--trainer.max_steps={step + 2}"]
    assert main(command("fit", *more)) == 0


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


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("when", ["while it starts", "while it trains"])
def test_one_of_two_processes_is_killed(
    rank: int, when: str, two: Callable[..., list[str]], tmp_path: Path
) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    output = tmp_path / "output.txt"
    last = tmp_path / "logs" / "run" / "version_0" / "checkpoints" / "last.ckpt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            two(), cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        first = psutil.Process(process.pid)

        def second() -> list[psutil.Process]:
            found: list[psutil.Process] = []
            for one in first.children():
                with suppress(psutil.Error):  # gone meanwhile, such as git
                    found += [one] if one.environ().get("LOCAL_RANK") == "1" else []
            return found

        wait_for(second, lambda: process.poll() is None)
        (other,) = second()  # it alone is told its rank
        if when == "while it trains":
            wait_for(last.exists, lambda: process.poll() is None)
        killed, left = (first, other) if rank == 0 else (other, first)
        killed.send_signal(signal.SIGKILL)
        patience = STATED + (STARTING if when == "while it starts" else 0)
        if left is other:
            _, alive = psutil.wait_procs([left], patience)
            assert not alive, "it goes on"
        code = process.wait(patience)
        said = output.read_text(encoding="utf-8", errors="replace")
        assert code == (-signal.SIGKILL if rank == 0 else 2)
        assert "trainer.devices: " in one_message(said)
        assert "--ckpt_path last goes on" in one_message(said)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if when == "while it trains":
        step = load_checkpoint(last)["global_step"]
        more = two("--ckpt_path=last", f"--trainer.max_steps={step + 2}")
        done = subprocess.run(more, cwd=ROOT, env=environment, capture_output=True, timeout=240)
        assert done.returncode == 0, done.stderr
