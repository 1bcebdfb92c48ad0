"""The first batch of a run, as the model sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Callback

from tuner.data.datamodule import ConversationData
from tuner.data.view import as_record

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer

    from tuner.data.batching import Batch


class FirstBatch(Callback):
    """Writes `first_batch.json`: text, token ids and labels of the rows trained on first."""

    def __init__(self) -> None:
        self.folder: Path | None = None  # set once the run has its folder

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Write it once."""
        if self.folder is None or not trainer.is_global_zero:
            return
        file, self.folder = self.folder / "first_batch.json", None
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(data, ConversationData)
        assert data.curated is not None
        assert data.tokenizer is not None
        splits, encoded = data.curated.splits["train"], data.curated.encoded["train"]
        rows = [
            as_record(splits[row], encoded[row], "train", data.prompt, data.tokenizer)
            for row in batch["rows"]
        ]
        file.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
