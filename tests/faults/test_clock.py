"""The clock is put back or forward while something runs, and files are older than time."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.conftest import ROOT
from tuner.checkpoint import load_checkpoint, newest
from tuner.runs import find_checkpoint, find_run, read_losses, read_record, write_record
from tuner.sweep.claims import Claims
from tuner.tools.runs import main as runs

DAY, YEAR = 86_400, 365 * 86_400
ADAPTER = "adapter/adapter_model.safetensors"
OPTIONS = (
    "--trainer.max_epochs=30",
    "--trainer.val_check_interval=3",
    "--checkpoint.every_n_steps=2",
    "--data.val_size=8",
    "--samples.count=1",
    "--samples.max_new_tokens=2",
)
COMPILER = shutil.which("cc")
SOAK = pytest.mark.soak
ODD = [(sign * size, -sign * size) for size in (1, 3600, DAY, YEAR, 10 * YEAR) for sign in (-1, 1)]


@pytest.fixture
def shifted(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """The environment of a process whose clock is off, and the file that says by how much."""
    assert COMPILER
    library, shift = tmp_path / "clock.so", tmp_path / "shift"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    shift.write_text("0")
    return {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift)}, shift


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C compiler to make a clock that jumps")
@pytest.mark.parametrize(
    "jumps",
    [[(-DAY, YEAR)], [(YEAR, -DAY)], [(-2_000_000_000, 0)], pytest.param(ODD, marks=SOAK)],
    ids=["back and forth", "forth and back", "before 1970", "many"],
)
def test_a_run_does_not_notice_that_the_clock_jumps(
    jumps: list[tuple[int, int]],
    fit: Callable[..., Path],
    command: Callable[..., list[str]],
    shifted: tuple[dict[str, str], Path],
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    """Real: every library asks the C library for the time. Killed in between, and resumed."""
    whole = (fit(*OPTIONS, "--name=whole") / ADAPTER).read_bytes()
    environment, shift = shifted
    own = os.environ | environment | {"OMP_NUM_THREADS": "1"}
    draw = random.Random(len(jumps))
    for number, (first, second) in enumerate(jumps):
        name = f"jumps-{number}"
        run = tmp_path / "logs" / name / "version_0"

        def start(*more: str, name: str = name) -> subprocess.Popen[bytes]:
            options = command("fit", *OPTIONS, f"--name={name}", *more)
            return subprocess.Popen([sys.executable, "train.py", *options], cwd=ROOT, env=own)

        def until(there: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
            end = time.monotonic() + 300
            while not there():
                assert process.poll() is None
                assert time.monotonic() < end, "it sleeps"
                time.sleep(0.01)

        shift.write_text("0")
        began = time.monotonic()
        process = start()
        until((run / "checkpoints" / "best.ckpt").exists, process)
        points = draw.randint(2, 7) if len(jumps) > 1 else 2
        until(lambda run=run, n=points: len(read_losses(run)["val"]) >= n, process)
        shift.write_text(str(first))
        until(lambda run=run, n=points: len(read_losses(run)["val"]) >= n + 4, process)
        process.kill()
        process.wait()
        shift.write_text(str(second))
        assert start("--ckpt_path=last").wait() == 0
        again = run.with_name("version_1")
        record = read_record(again)
        assert (again / ADAPTER).read_bytes() == whole
        assert record["resumed_from"] == str(run / "checkpoints" / "last.ckpt")
        assert 0 < record["training_seconds"] <= record["seconds"] < time.monotonic() - began
        assert 0 < record["tokens_per_second"] < 1e9
        said = [datetime.fromisoformat(read_record(one)["started"]) for one in (run, again)]
        off = [(moment - datetime.now(UTC)).total_seconds() for moment in said]
        assert abs(off[0]) < DAY / 2, "before the first jump"
        assert abs(off[1] - second) < DAY / 2
        assert find_run(name, tmp_path / "logs") == again
    figures(
        "faults", "the clock put back or forward while a run trains, and while it is resumed",
        2 * len(jumps), same_adapters=len(jumps),
    )  # fmt: skip


def test_times_of_files_say_nothing_about_which_is_the_newest(
    fit: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = fit("--trainer.max_steps=3", "--checkpoint.every_n_steps=1", "--data.val_size=4")
    new = old.with_name("version_1")
    shutil.copytree(old, new)
    logs = tmp_path / "logs"
    for moment in (-DAY, 0, time.time() + YEAR):
        for file in [*new.rglob("*"), new]:
            os.utime(file, (moment, moment))
        assert find_run("run", logs) == new
        assert find_checkpoint("last", logs, "run") == new / "checkpoints" / "last.ckpt"
        os.utime(new / "checkpoints" / "previous.ckpt", (time.time() + 2 * YEAR,) * 2)
        steps = [load_checkpoint(file)["global_step"] for file in newest(new / "checkpoints")]
        assert steps[0] == max(steps) > min(steps)
    # A table by time goes by what the runs say themselves, whatever the year.
    write_record(new, read_record(new) | {"started": "1969-12-31T23:59:59+0000"})
    assert runs([f"--logs={logs}", "--json"]) == 0
    assert [row["version"] for row in json.loads(capsys.readouterr().out)] == [1, 0]


@pytest.mark.parametrize("jump", [-DAY, YEAR])
def test_a_sign_of_life_that_is_far_from_now_is_none(jump: int) -> None:
    now = datetime(2026, 1, 1)
    sign = SimpleNamespace(heartbeat=now - timedelta(seconds=jump))
    row: Any = SimpleNamespace(state=TrialState.RUNNING, heartbeats=[sign], user_attributes=[])
    claims: Any = SimpleNamespace(_is_gone=lambda row: False)
    assert Claims._is_free(claims, row, now)
    sign.heartbeat = now - timedelta(seconds=30)
    assert not Claims._is_free(claims, row, now)
