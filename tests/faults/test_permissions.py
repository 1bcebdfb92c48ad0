"""The right to write is lost while something runs: one message, and it goes on once it is back."""

from __future__ import annotations

import ctypes
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from comparisons import begin, write_comparison

from tests.faults.conftest import Child, one_message
from tuner.checkpoint import load_checkpoint
from tuner.cli import main
from tuner.errors import UserError
from tuner.rating.store import Rating
from tuner.runs import read_record

DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2  # of capabilities(7)


def obey() -> None:
    """Let permissions count for this process and its children, also when it is root's."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the upper halves
    assert libc.capget(header, held) == 0
    held[0] &= ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    assert libc.capset(header, held) == 0


@contextmanager
def locked(*folders: Path) -> Iterator[None]:
    """Folders in which nothing can be made, renamed or removed."""
    for folder in folders:
        folder.chmod(0o555)
    yield
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.parametrize("tries", [1, pytest.param(20, marks=pytest.mark.soak)])
@pytest.mark.parametrize(("place", "expected"), [("checkpoints", 2), (".", 143)])
def test_a_run_whose_folder_is_locked_stops_and_goes_on_later(
    place: str,
    expected: int,
    tries: int,
    command: Callable[..., list[str]],
    child: Callable[..., Child],
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    endless = ("--trainer.max_epochs=100000", "--checkpoint.every_n_steps=2", "--data.val_size=4")
    draw, step, ended = random.Random(tries), 0, Counter[int]()

    def work(again: list[str]) -> int:
        obey()
        return main(command("fit", *endless, *again))

    for number in range(tries):
        one = child(lambda number=number: work(["--ckpt_path=last"] if number else []))
        run = tmp_path / "logs" / "run" / f"version_{number}"
        last = run / "checkpoints" / "last.ckpt"
        until = time.monotonic() + 120
        while not (last.exists() and (run / "run.json").exists()):
            assert one.process.is_alive(), one.said
            assert time.monotonic() < until
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 1) if number else 0)
        with locked(run / place):
            if place == ".":  # only the end is written there, and what stopped the run matters more
                one.process.terminate()
            code = one.wait()
        ended[code] += 1
        if code == 2:  # of what else it writes there at the start, too
            assert "Permission denied" in one_message(one.said)
        before, step = step, load_checkpoint(last)["global_step"]
        assert step >= before, "each goes on where the one before it was"
        assert read_record(run)["status"] in ("running", "stopped")
    assert (
        main(command("fit", *endless, "--ckpt_path=last", f"--trainer.max_steps={step + 2}")) == 0
    )
    assert set(ended) <= {expected, 2}, ended
    assert ended[expected] > 0 or tries == 1, "once, the right may go while a file is made"
    what = "its checkpoints" if expected == 2 else "the run, which is stopped then"
    figures("faults", f"the right to write lost in the folder of {what}", tries, goes_on=tries)


def test_ratings_that_can_no_longer_be_written_are_not_confirmed(
    child: Callable[..., Child], tmp_path: Path
) -> None:
    folder = write_comparison(tmp_path / "rated")
    _, store = begin(folder)
    where = {"rater": "Ann", "criterion": "tone", "system": "s", "value": "3"}
    store.save([Rating(item="id0", turn=1, kind="score", **where)])

    def work() -> None:
        obey()
        with pytest.raises(UserError, match=r"ratings\.sqlite: (attempt to write|unable to open)"):
            store.save([Rating(item="id1", turn=1, kind="score", **where)])
        assert [one.item for one in store.ratings()] == ["id0"]

    with locked(folder):
        one = child(work)
        assert one.wait() == 0, one.said
    assert store.save([Rating(item="id1", turn=1, kind="score", **where)]) == 1
