"""A run keeps the progress bars that can be seen, however many validations it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback


class Count(Callback):
    def __init__(self) -> None:
        self.found: list[int] = []

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        progress = trainer.progress_bar_callback.progress
        drawn = [len(column._renderable_cache) for column in progress.columns]
        self.found.append(max(len(progress.tasks), *drawn))


def test_bars_of_validations_that_are_over_are_let_go(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Count()
    monkeypatch.setattr("tuner.cli.LearningRateMonitor", lambda _: count)
    fit(
        "--trainer.enable_progress_bar=true",
        "--trainer.max_steps=6",
        "--trainer.val_check_interval=1",
        "--trainer.check_val_every_n_epoch=null",
    )
    assert len(count.found) == 6
    assert max(count.found) <= 3, "that of the training, a validation and the one before"
