"""Sweeps whose runs are those of a stub."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tuner.sweep.definition import Definition, Range
from tuner.sweep.queue import Queue
from tuner.sweep.storage import open_storage, sqlite_url

STUB = Path(__file__).with_name("stub_fit.py")


@pytest.fixture(autouse=True)
def _stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.sweep.fit.PROGRAM", (sys.executable, "-S", str(STUB)))
    monkeypatch.setattr("tuner.sweep.fit.POLL", 0.02)
    monkeypatch.setattr("tuner.sweep.worker.IDLE", 0.02)


@pytest.fixture
def define(tmp_path: Path) -> Callable[..., Definition]:
    """Makes the definition of a sweep over the stub's losses."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {base: pico}\n")

    def make(**keys: Any) -> Definition:
        over: dict[str, tuple[str, ...] | Range] = {"loss": ("1", "2", "3")}
        return Definition(**{"config": (str(recipe),), "over": over, "seeds": (1, 2)} | keys)

    return make


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without a study; making its tables takes longer than most tests."""
    file = tmp_path_factory.mktemp("tables") / "sweep.sqlite"
    open_storage(sqlite_url(file))
    return file


@pytest.fixture
def join(
    tmp_path: Path, define: Callable[..., Definition], tables: Path
) -> Iterator[Callable[..., Queue]]:
    """Opens the queue of a sweep, each time as another worker on a machine of its own."""
    workers: list[Queue] = []
    shutil.copy(tables, tmp_path)

    def call(definition: Definition | None = None, machine: str = "") -> Queue:
        folder = tmp_path / (machine or f"machine-{len(workers)}")
        storage = open_storage(sqlite_url(tmp_path / "sweep.sqlite"))
        workers.append(Queue(storage, "losses", definition or define(), folder))
        return workers[-1]

    yield call
    for worker in workers:
        worker.close()
