"""The progress bars of validations that are over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import RichProgressBar

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


class LastBar(Callback):
    """Lets go of all but the last one: Lightning hides a bar and keeps it to the end of the run."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the hidden bars, but for the one that the progress bar still speaks of."""
        bar = trainer.progress_bar_callback
        if not isinstance(bar, RichProgressBar) or bar.progress is None:
            return
        for task in bar.progress.tasks:
            if not task.visible and task.id != bar.val_progress_bar_id:
                bar.progress.remove_task(task.id)
                for column in bar.progress.columns:  # each remembers what it has drawn
                    vars(column).get("_renderable_cache", {}).pop(task.id, None)
