"""Small runs that are trained once and used by many tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.cli import main

Trained = Callable[..., Path]


def trainer(folder: Path, data: Path) -> Trained:
    """A function that trains a run of some options in this process, once, and returns its folder.

    Args:
        folder: for the runs, in `logs/`.
        data: a file of conversations.
    """
    found: dict[tuple[str, ...], Path] = {}

    def train(name: str, *options: object) -> Path:
        asked = (name, *map(str, options))
        if asked not in found:
            arguments = [
                *("fit", f"--name={name}", "--data.source=Conversations"),
                *(f"--data.source.path={data}", "--data.batch_size=4", "--data.max_length=128"),
                *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
                *("--trainer.enable_model_summary=false", "--samples.count=0"),
                *(f"--trainer.default_root_dir={folder / 'logs'}", "--optimizer.lr=0.02"),
                *(f"--data.cache_dir={folder / 'cache'}", "--trainer.max_steps=6"),
            ]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("sys.argv", ["train.py"])
                assert main([*arguments, *asked[1:]]) == 0
            version = [other for other, *_ in found].count(name)
            found[asked] = folder / "logs" / name / f"version_{version}"
        return found[asked]

    return train
