"""What cannot work is refused before a run gets its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tuner.checkpoint import load_checkpoint, refuse_misfit
from tuner.errors import UserError
from tuner.schedule import total_steps

if TYPE_CHECKING:
    from lightning import Trainer

    from tuner.data.datamodule import ConversationData
    from tuner.module import ChatTuner


def refuse_impossible(trainer: Trainer, model: ChatTuner, data: ConversationData) -> None:
    """Make sure that there is something to train, and an optimiser to do it.

    Raises:
        UserError: a setting of trainer, optimizer or lr_scheduler does not fit.
    """
    if trainer.accumulate_grad_batches < 1:
        raise UserError(
            f"trainer.accumulate_grad_batches: {trainer.accumulate_grad_batches} is not allowed; "
            "give 1 or more"
        )
    batches = len(data.train_dataloader())
    if trainer.limit_train_batches == 0 or 0 in (trainer.max_steps, trainer.max_epochs):
        raise UserError(
            "trainer.max_epochs, trainer.max_steps, trainer.limit_train_batches: 0 leaves nothing "
            "to train; use validate or test to look at a model"
        )
    every = trainer.val_check_interval
    if isinstance(every, int) and trainer.check_val_every_n_epoch and every > batches:
        raise UserError(
            f"trainer.val_check_interval: {every} is more than the {batches} batches of an epoch; "
            "make it smaller, or count over epochs with --trainer.check_val_every_n_epoch null"
        )
    try:
        model.configure_optimizers()
    except (ValueError, TypeError) as error:
        raise UserError(f"optimizer, lr_scheduler: {error}") from error


def refuse_finished(
    trainer: Trainer, model: ChatTuner, data: ConversationData, file: str | Path
) -> None:
    """Make sure that a checkpoint fits the run and leaves it something to do.

    Raises:
        UserError: it cannot be read, fits another base or head, or is at the end of the run.
    """
    checkpoint = load_checkpoint(Path(file))
    own = model.identity() | {"weights_sha256": model.weights_sha256}
    refuse_misfit(checkpoint, own, model.trainable())
    step = int(checkpoint["global_step"])
    if max(trainer.max_epochs or -1, trainer.max_steps) < 0:
        return  # no end
    end = total_steps(data.steps_per_epoch(), trainer.max_epochs, trainer.max_steps)
    if step >= end:
        raise UserError(
            f"ckpt_path: {file} is at step {step}, and this run ends at step {end}; raise "
            "trainer.max_epochs or trainer.max_steps to go on"
        )
