"""SIGTERM or Ctrl+C to any process of a run ends all of them, with a checkpoint to go on from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tuner.checkpoint import load_checkpoint


@pytest.mark.parametrize("who", ["second", pytest.param("all", marks=pytest.mark.slow)])
def test_two_processes_stop_together(
    who: str, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    options = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=1000"]
    first = subprocess.Popen(
        [sys.executable, "train.py", *command("fit", *options, "--trainer.val_check_interval=2")],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    run = tmp_path / "logs" / "run" / "version_0"
    while not (run / "checkpoints" / "best.ckpt").is_file():  # it trains and validates by now
        assert first.poll() is None
        time.sleep(0.05)
    listed = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    children = [pid for pid in map(int, listed) if b"train.py" in _command(pid)]
    assert len(children) == 1
    for pid in children if who == "second" else [first.pid, *children]:
        os.kill(pid, signal.SIGTERM)
    try:
        assert first.wait(timeout=60) == 143
    finally:
        first.kill()
    assert load_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] > 0
    time.sleep(1)
    assert not [pid for pid in children if _command(pid)], "a process stays behind"


@pytest.mark.parametrize(("times", "workers"), [(1, 0), (3, 2)])
def test_ctrl_c_stops_and_says_how_to_go_on(
    times: int, workers: int, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    """To the processes that build batches as well, as from a terminal."""
    options = ["--trainer.max_epochs=1000", f"--data.num_workers={workers}", "--data.val_size=0"]
    process = subprocess.Popen(
        [sys.executable, "train.py", *command("fit", *options, "--checkpoint.every_n_steps=2")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    last = tmp_path / "logs" / "run" / "version_0" / "checkpoints" / "last.ckpt"
    while not last.is_file():
        assert process.poll() is None
        time.sleep(0.02)
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.02)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    step = load_checkpoint(last)["global_step"]
    assert f"Stopped at step {step}. " in said
    assert "--ckpt_path last" in said
    assert "Traceback" not in said
    assert "Detected" not in said


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
