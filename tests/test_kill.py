"""`kill -9` at any instant: what is on the disk is whole, and the run ends as if never killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tuner.checkpoint import load_checkpoint
from tuner.runs import read_record

# 7 steps an epoch; a validation, a best.ckpt or a last.ckpt is being written most of the time.
OPTIONS = (
    "--trainer.max_epochs=8",
    "--trainer.val_check_interval=3",
    "--checkpoint.every_n_steps=2",
    "--optimizer.lr=0.1",
    "--data.val_size=8",
    "--data.test_size=4",
    "--samples.count=2",
    "--samples.max_new_tokens=4",
)
ADAPTER = "adapter/adapter_model.safetensors"


def killed(args: list[str], run: Path, errors: Path, draw: random.Random, seconds: float) -> bool:
    """Starts a fit and kills it: a fifth of the time while it starts, else while it trains.

    Returns:
        Whether it was killed before it was done.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "train.py", *args], cwd=ROOT, env=environment, stderr=errors.open("wb")
    )
    if draw.random() > 0.2:
        while not (run / "run.json").is_file() and process.poll() is None:
            time.sleep(0.02)
    try:
        code = process.wait(timeout=draw.uniform(0, seconds))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    assert code == 0, errors.read_text()
    return False


@pytest.mark.parametrize("kills", [1, pytest.param(50, marks=pytest.mark.soak)])
def test_every_checkpoint_is_whole_and_the_end_is_the_same(
    fit: Callable[..., Path],
    command: Callable[..., list[str]],
    tmp_path: Path,
    figures: Callable[..., None],
    kills: int,
) -> None:
    began = time.perf_counter()
    whole = (fit(*OPTIONS, "--name=whole") / ADAPTER).read_bytes()
    seconds = time.perf_counter() - began
    draw = random.Random(kills)
    done = looked_at = 0
    for name in map("part-{}".format, range(kills + 1)):
        root = tmp_path / "logs" / name
        while True:
            run = root / f"version_{len(list(root.glob('version_*')))}"
            more = ["--ckpt_path=last"] if list(root.glob("*/checkpoints/*.ckpt")) else []
            args = command("fit", *OPTIONS, f"--name={name}", *more)
            ended = not killed(args, run, tmp_path / "errors", draw, seconds)
            if ended or read_record(run).get("status") == "finished":
                break
            done += 1
            for file in root.glob("*/checkpoints/*.ckpt"):
                if not file.name.startswith("."):
                    load_checkpoint(file)
                    looked_at += 1
        assert (run / ADAPTER).read_bytes() == whole
        assert not list(root.rglob("*.part")), "half written, of any of the killed runs"
        if done >= kills:
            break
    figures("faults", "`fit` killed at a random instant", done, checkpoints_read=looked_at)
