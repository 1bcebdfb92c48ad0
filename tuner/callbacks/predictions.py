"""The replies of `train.py predict`, as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import BasePredictionWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning import LightningModule, Trainer


class PredictionFile(BasePredictionWriter):
    """Writes a JSON line for each reply as soon as its batch is done; one file a device."""

    def __init__(self) -> None:
        super().__init__(write_interval="batch")
        self.folder: Path | None = None  # set before the prediction starts

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from an empty file."""
        self._file(trainer).unlink(missing_ok=True)

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
        """Append the rows of a batch."""
        with self._file(trainer).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in prediction)

    def _file(self, trainer: Trainer) -> Path:
        assert self.folder is not None
        device = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        return self.folder / f"predictions{device}.jsonl"
