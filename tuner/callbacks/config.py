"""The configuration of a run, saved in its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.cli import SaveConfigCallback

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


class SaveFitConfig(SaveConfigCallback):
    """Saves the configuration of a fit: the other subcommands have no run folder."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save when the run starts."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)
