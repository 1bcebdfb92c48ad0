"""SIGTERM stops all devices at the same batch, with nothing lost."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning import LightningModule, Trainer

    from tuner.data.batching import Batch


class StopTogether(Callback):
    """Turns SIGTERM to any of the processes into a stop of all of them.

    Lightning's own handler waits for the other processes inside the handler, wherever they are,
    which hangs; and one that was asked alone would leave alone. Here the handler takes a note,
    and the processes tell each other between batches. Lightning then ends the loop.
    """

    def __init__(self) -> None:
        self._asked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of Lightning's handler, which is there by now and goes at the end."""

        def note(*_: object) -> None:
            self._asked = True
            if trainer.world_size == 1:  # nobody to agree with: generation may stop at a token
                _stop(trainer)

        signal.signal(signal.SIGTERM, note)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: torch.Tensor | Mapping[str, Any] | None,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Tell the others, and hear from them."""
        self._agree(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: torch.Tensor | Mapping[str, Any] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Likewise: every device runs equally many batches."""
        self._agree(trainer, pl_module)

    def _agree(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.world_size > 1:
            asked = torch.tensor(float(self._asked), device=module.device)
            if trainer.strategy.reduce(asked, reduce_op="sum") > 0:
                _stop(trainer)


def _stop(trainer: Trainer) -> None:
    # What Lightning's loops look at, each at a place where they can end.
    trainer._signal_connector.received_sigterm = True  # pyright: ignore[reportPrivateUsage]
