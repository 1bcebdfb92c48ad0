"""SIGTERM and Ctrl+C stop all devices at the same batch, with nothing lost."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning import LightningModule, Trainer

    from tuner.data.batching import Batch


class StopTogether(Callback):
    """Turns SIGTERM or Ctrl+C to any of the processes into a stop of all of them.

    Lightning's own handler waits for the other processes inside the handler, wherever they are,
    which hangs; and one that was asked alone would leave alone. Here the handler takes a note,
    and the processes tell each other between batches. Lightning then ends the loop. An exception
    where Ctrl+C happens to come could leave an optimiser step half done.
    """

    def __init__(self) -> None:
        self._asked = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of the handlers that are there by now; Lightning puts back the first."""

        def note(number: int, _: object) -> None:
            self._asked = self._asked or number
            if trainer.world_size == 1:  # nobody to agree with: generation may stop at a token
                _stop(trainer)

        signal.signal(signal.SIGTERM, note)
        if callable(signal.getsignal(signal.SIGINT)):  # else ignored, as for a background job
            signal.signal(signal.SIGINT, note)

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

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let Lightning's exception tell which of the two it was."""
        if isinstance(exception, SIGTERMException) and self._asked:
            exception.code = 128 + self._asked

    def _agree(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.world_size > 1:
            asked = torch.tensor(float(self._asked), device=module.device)
            if trainer.strategy.reduce(asked, reduce_op="sum") > 0:
                _stop(trainer)


def _stop(trainer: Trainer) -> None:
    # What Lightning's loops look at, each at a place where they can end.
    trainer._signal_connector.received_sigterm = True  # pyright: ignore[reportPrivateUsage]
