"""Runs that several tests of the tools talk to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def pico_logs(tmp_path_factory: pytest.TempPathFactory, rows_file: Callable[..., Path]) -> Path:
    """A folder of runs with a short LoRA run on pico, `lora`."""
    from tuner.cli import main

    folder = tmp_path_factory.mktemp("pico")
    options = {
        "name": "lora",
        "model.base": "pico",
        "data.source": "Conversations",
        "data.source.path": rows_file(40),
        "data.batch_size": 4,
        "data.cache_dir": folder / "cache",
        "trainer.default_root_dir": folder / "logs",
        "trainer.accelerator": "cpu",
        "trainer.max_steps": 2,
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "optimizer.lr": 0.02,
        "samples.count": 0,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py"])
        assert main(["fit", *(f"--{key}={value}" for key, value in options.items())]) == 0
    return folder / "logs"
