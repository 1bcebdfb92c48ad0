"""Runs that several tests of the tools talk to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from trained import Trained, trainer


@pytest.fixture(scope="session")
def pico_logs(tmp_path_factory: pytest.TempPathFactory, rows_file: Callable[..., Path]) -> Path:
    """A folder of runs with a short LoRA run on pico, `lora`, alone in it."""
    train = trainer(tmp_path_factory.mktemp("pico"), rows_file(40))
    return train("lora", "--model.base=pico", "--trainer.max_steps=2").parents[1]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, rows_file: Callable[..., Path]) -> Trained:
    """Trains a run of some options once for all tests."""
    return trainer(tmp_path_factory.mktemp("runs"), rows_file(40))


@pytest.fixture(scope="session")
def lora(trained: Trained) -> Path:
    """The folder of a LoRA run on pico."""
    return trained("lora", "--model.base=pico")
