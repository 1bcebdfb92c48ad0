"""A disk that fills up, for real: one message, nothing spoilt, and it goes on with more room."""

from __future__ import annotations

import ctypes
import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from comparisons import begin, write_comparison

from tests.faults.conftest import Child, one_message
from tests.test_kill import ADAPTER
from tests.test_kill import OPTIONS as OFTEN
from tuner.checkpoint import load_checkpoint
from tuner.cli import main
from tuner.errors import UserError
from tuner.rating.store import Rating
from tuner.runs import read_record
from tuner.tools.compare import main as evaluate

OPTIONS = (*OFTEN, "--trainer.max_epochs=3", "--name=full")
CLONE_NEWNS = 0x20000
ROOM = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk of its own")


def disk(folder: Path, size: int) -> None:
    """A disk of so many bytes that this process and its children alone see."""
    assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) == 0
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)


def used(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


@ROOM
@pytest.mark.parametrize("tries", [1, pytest.param(50, marks=pytest.mark.soak)])
def test_a_run_on_a_disk_that_fills_up_goes_on_when_there_is_room(
    fit: Callable[..., Path],
    command: Callable[..., list[str]],
    child: Callable[..., Child],
    tmp_path: Path,
    figures: Callable[..., None],
    tries: int,
) -> None:
    """Filled at any place: preparation, logs, checkpoints, run.json, export."""
    run = fit(*OPTIONS)
    whole, needed = (run / ADAPTER).read_bytes(), used(run.parents[1]) + used(tmp_path / "cache")
    draw, resumed = random.Random(tries), 0
    small = tmp_path / "small"
    small.mkdir()
    places = [f"--trainer.default_root_dir={small}/logs", f"--data.cache_dir={small}/cache"]

    def attack(size: int) -> int:
        disk(small, size)
        code = main(command("fit", *OPTIONS, *places))
        print("ended with", code, flush=True)
        for file in small.glob("logs/*/*/checkpoints/[!.]*.ckpt"):
            load_checkpoint(file)
        for record in small.glob("logs/*/*/run.json"):
            assert read_record(record.parent), "cut off"
        subprocess.run(["mount", "-o", f"remount,size={2 * needed + 2**20}", small], check=True)
        saved = list(small.glob("logs/*/*/checkpoints/*.ckpt"))
        if code:
            again = ["--ckpt_path=last"] if saved else []
            assert main(command("fit", *OPTIONS, *places, *again)) == 0
        (last,) = [f for f in small.glob("logs/*/*") if read_record(f)["status"] == "finished"]
        assert (last / ADAPTER).read_bytes() == whole
        assert not list(small.rglob("*.part"))
        return 2 if not code else 3 if saved else 4

    told = set[str]()
    while resumed < tries:
        one = child(lambda: attack(int(needed * draw.uniform(0.02, 0.98))))
        code = one.wait()
        assert code in (2, 3, 4), one.said
        if code == 2:
            continue
        error = one_message(one.said)
        assert "ended with 2" in one.said
        assert "No space left on device" in error
        told.add(error)
        resumed += 1
    figures("faults", "a disk that fills up during `fit`", tries, messages=len(told))


@ROOM
def test_a_comparison_on_a_full_disk_is_one_message_and_is_made_later(
    fit: Callable[..., Path], child: Callable[..., Child], tmp_path: Path
) -> None:
    run = fit("--trainer.max_steps=2", "--data.test_size=8")
    small = tmp_path / "small"
    small.mkdir()
    arguments = [str(run), f"--output={small}/compared", "--max_new_tokens=4", "--latency=0"]

    def attack() -> int:
        disk(small, 24 * 1024)
        code = evaluate(arguments)
        print("ended with", code, flush=True)
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        again = evaluate(arguments)
        results = json.loads((small / "compared" / "results.json").read_text())
        assert results["test_set"]["n"] == 8
        lines = (small / "compared" / "predictions.jsonl").read_text().splitlines()
        assert len(lines) == 8 * len(results["systems"])
        return again

    one = child(attack)
    assert one.wait() == 0, one.said
    assert "ended with 2" in one.said
    assert "No space left on device" in one_message(one.said)


@ROOM
def test_a_full_disk_takes_no_rating_that_was_confirmed(
    child: Callable[..., Child], tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()

    def attack() -> None:
        disk(small, 64 * 1024)
        _, store = begin(write_comparison(small))
        confirmed: list[Rating] = []

        def comment() -> Rating:
            own = {"rater": "Ann", "item": f"id{len(confirmed)}", "value": "word " * 100}
            return Rating(turn=1, kind="comment", **own)

        def fill() -> None:
            while True:
                store.save([one := comment()])
                confirmed.append(one)

        with pytest.raises(UserError, match=r"ratings\.sqlite: database or disk is full"):
            fill()
        assert len(confirmed) > 10
        assert sorted(store.ratings(), key=lambda one: int(one.item[2:])) == confirmed
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        assert store.save([comment()]) == 1

    one = child(attack)
    assert one.wait() == 0, one.said
