"""The replies of `train.py predict`, as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import BasePredictionWriter

from tuner.devices import gathered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning import LightningModule, Trainer


class PredictionFile(BasePredictionWriter):
    """Writes a JSON line for each reply as soon as its batch is done on all devices.

    Each row comes once, in the order of a single device. The file takes its name when it is whole:
    until then that of an earlier prediction stays.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="batch")
        self.folder: Path | None = None  # set before the prediction starts
        self._written: set[str] = set()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from an empty file."""
        self._written.clear()
        if trainer.is_global_zero:
            self._part.write_text("")

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Append the rows of this batch on every device."""
        rows = {row["id"]: row for row in gathered(prediction) if row["id"] not in self._written}
        self._written |= rows.keys()
        if trainer.is_global_zero:
            with self._part.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the whole file in its place."""
        if trainer.is_global_zero:
            self._part.replace(self._part.with_name("predictions.jsonl"))

    @property
    def _part(self) -> Path:
        assert self.folder is not None
        return self.folder / ".predictions.jsonl.part"
