"""A preparation that is killed, or loses one of its processes."""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.conftest import Child
from tuner.backbone import load_tokenizer
from tuner.data.curate import Curated
from tuner.data.datamodule import ConversationData
from tuner.data.sources.conversations import Conversations
from tuner.process import run

Prepare = Callable[..., Curated]
LARGE = 8000  # rows; more than what one process cleans alone in these tests


def write(file: Path, count: int) -> Path:
    rows = (
        {"prompt": f"ask {n} of {n * 7919 % 10007}", "completion": f"{n}"} for n in range(count)
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """Prepares the rows of a file for the embedded tokenizer."""
    pico = load_tokenizer("pico")

    def call(rows: Path, cache: str | None = "cache", **settings: Any) -> Curated:
        folder = cache and str(tmp_path / cache)
        data = ConversationData(Conversations(str(rows)), cache_dir=folder, **settings)
        return data.prepare(pico)

    return call


def content(found: Curated) -> list[Any]:
    rows = {name: [one.messages for one in split] for name, split in found.splits.items()}
    return [rows, found.account, found.contaminated.tolist(), found.all_lengths.tolist()]


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.soak)])
def test_a_killed_preparation_begins_anew_and_leaves_nothing(
    prepare: Prepare,
    child: Callable[..., Child],
    tmp_path: Path,
    figures: Callable[..., None],
    kills: int,
) -> None:
    rows = write(tmp_path / "rows.jsonl", 600)
    began = time.perf_counter()
    whole = content(prepare(rows, "whole"))
    seconds = time.perf_counter() - began
    draw = random.Random(kills)
    done = opened = 0
    while done < kills:
        # Another length limit is another preparation: what is left of it no rerun would overwrite.
        limit = 512 if done % 2 else 400 + done
        one = child(lambda limit=limit: prepare(rows, max_length=limit) and 0)
        one.process.join(draw.uniform(0, seconds))
        killed = one.process.exitcode is None
        one.process.kill()
        one.process.join()
        assert killed or one.process.exitcode == 0, one.said
        done += killed
        assert len(list((tmp_path / "cache").glob("*.part"))) <= 1
        if draw.random() < 0.3:
            assert content(prepare(rows)) == whole
            opened += 1
    assert content(prepare(rows)) == whole
    assert not list((tmp_path / "cache").glob("*.part"))
    figures("faults", "preparation of data killed at a random instant", done, reruns=opened + 1)


def test_what_is_done_is_not_done_again(
    prepare: Prepare, child: Callable[..., Child], tmp_path: Path
) -> None:
    rows = write(tmp_path / "rows.jsonl", 200)
    account = prepare(rows).folder / "account.json"
    before = account.stat()
    one = child(lambda: prepare(rows) and os.kill(os.getpid(), signal.SIGKILL))
    assert one.wait() == -signal.SIGKILL
    prepare(rows)
    assert (account.stat().st_ino, account.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )


def test_without_a_cache_a_killed_process_leaves_no_folder_for_long(
    prepare: Prepare, child: Callable[..., Child], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write(tmp_path / "rows.jsonl", 200)
    own = tmp_path / "temporary"
    own.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    mine = prepare(rows, None).folder
    for _ in range(3):
        one = child(lambda: prepare(rows, None) and os.kill(os.getpid(), signal.SIGKILL))
        assert one.wait() == -signal.SIGKILL
        assert len(list(own.glob("tuner-data-*/"))) == 2
    assert mine.is_dir(), "it is in use"


@pytest.fixture
def large(
    prepare: Prepare,
    child: Callable[..., Child],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """A preparation in a process of its own, as soon as it has given work to others."""
    monkeypatch.setattr("tuner.data.pool.ALONE", 1)
    rows = write(tmp_path / "large.jsonl", LARGE)

    def go() -> int:
        return run(lambda: prepare(rows, max_length=64) and None)

    one = child(go)
    until = time.monotonic() + 120
    while len(workers := psutil.Process(one.process.pid).children()) < 2:
        assert one.process.is_alive(), one.said
        assert time.monotonic() < until
        time.sleep(0.01)
    return one, workers


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor prepares alone")
def test_processes_that_prepare_end_with_the_one_they_work_for(large: Any) -> None:
    one, workers = large
    one.process.kill()
    assert not psutil.wait_procs(workers, 30)[1]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor prepares alone")
def test_a_killed_process_that_prepares_is_one_message(large: Any, tmp_path: Path) -> None:
    one, workers = large
    workers[0].kill()
    assert one.wait() == 2
    assert one.said.count("error:") == 1
    assert "a process that prepares rows was killed" in one.said
    assert "Traceback" not in one.said
    assert not list((tmp_path / "cache").glob("*.part"))
