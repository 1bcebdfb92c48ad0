"""When a run is saved, and how it goes on from there as if nothing had happened."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from tuner.checkpoint import place
from tuner.errors import UserError
from tuner.lost import RESUME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning import LightningModule, Trainer

    from tuner.callbacks.guard import Guard
    from tuner.hold import Hold


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt` up to date, and the one before it as `previous.ckpt`.

    Saves every so many optimiser steps, before each validation, at the end, and when stopped.
    Lightning runs callbacks of this kind after all others, so what those count is saved whole.

    Args:
        every_n_steps: optimiser steps between two saves.
    """

    def __init__(self, every_n_steps: int = 200) -> None:
        if every_n_steps < 1:
            raise UserError(
                f"checkpoint.every_n_steps: {every_n_steps} is not allowed; give 1 or more"
            )
        self.every_n_steps = every_n_steps
        self.folder: Path | None = None  # set once the run has its folder
        self.guard: Guard | None = None
        self.hold: Hold | None = None  # of the process that writes
        self._saved = 0
        self._validated = -1
        self._unflushed = False

    def _save(self, trainer: Trainer) -> None:
        if self.folder is None or trainer.global_step <= self._saved:
            return
        if self.guard is not None and not self.guard.fine:
            return  # the weights of the last good step are in the file already, or come with it
        self._saved = trainer.global_step
        if self.hold is not None:
            self.hold.check()
        last = self.folder / "last.ckpt"
        if trainer.is_global_zero and last.is_file():
            place(last, self.folder / "previous.ckpt")
        trainer.save_checkpoint(last)
        self._unflushed = True  # the loggers hear of this step a moment later

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a resumed run begin with the checkpoint that it goes on from."""
        if self.folder is not None and trainer.ckpt_path and trainer.is_global_zero:
            place(Path(str(trainer.ckpt_path)), self.folder / "last.ckpt")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from where a resumed run stands."""
        self._saved = trainer.global_step
        loop = trainer.fit_loop
        epochs: Any = loop.epoch_progress.current
        if loop.restarted_mid_epoch and epochs.processed == epochs.ready:
            # Resumed behind the last batch of an epoch, Lightning counts that epoch as done but
            # not the next one as begun, and a second resume would repeat a part of it.
            loop.reset_restart_stage()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Put on disk what was logged up to the checkpoint: a resumed run logs what comes after."""
        if self._unflushed:
            self._unflushed = False
            for logger in trainer.loggers:
                logger.save()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: torch.Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save when enough steps have gone by, and at the last one.

        A run that stops in the middle of an epoch looks like one at its end once Lightning has
        left its loop; saved here, it can go on in the middle.
        """
        many = trainer.global_step - self._saved >= self.every_n_steps
        if many or trainer.global_step == trainer.max_steps:
            self._save(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what a validation, which takes long, could lose."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that the weights of this step have been validated."""
        self._validated = trainer.global_step

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Describe the place in the run so that Lightning goes on exactly there."""
        loops = checkpoint["loops"]["fit_loop"]
        progress = loops["epoch_loop.batch_progress"]
        done = progress["current"]["processed"]
        # Gradients since the last optimiser step are not saved: count back to it.
        open_batches = 0 if progress["is_last_batch"] else done % trainer.accumulate_grad_batches
        for counts in (progress["current"], progress["total"]):
            if counts["ready"] > counts["processed"]:  # stopped in the middle of a batch
                counts["ready"] = counts["started"] = counts["processed"]
            for key in counts:
                counts[key] -= open_batches
        if done == 0:
            # Lightning takes an epoch of which nothing is done for one that has just been
            # validated, and counts an idle round as a logged step.
            loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
        validation = loops["epoch_loop.val_loop.batch_progress"]
        # A validation that was begun again is counted as begun twice; that looks like an open one.
        validation["total"] = dict.fromkeys(validation["total"], validation["total"]["completed"])
        if done and not open_batches and self._validation_due(trainer):
            _as_in_validation(loops)

    def _validation_due(self, trainer: Trainer) -> bool:
        if trainer.state.fn != "fit" or self._validated == trainer.global_step:
            return False
        loop = trainer.fit_loop
        fetcher = loop._data_fetcher  # pyright: ignore[reportPrivateUsage]
        return fetcher is not None and loop.epoch_loop._should_check_val_fx(fetcher)  # pyright: ignore[reportPrivateUsage]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of the training."""
        self._save(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save when the run is asked to stop; after any other error the weights may be bad.

        In a validation there is nothing new to save.
        """
        asked = isinstance(exception, SIGTERMException)
        if asked and not trainer.validating:
            self._save(trainer)
        saved = self.folder is not None and (self.folder / "last.ckpt").is_file()
        if saved and trainer.is_global_zero and (asked or isinstance(exception, KeyboardInterrupt)):
            print(f"Stopped at step {trainer.global_step}. {RESUME}", file=sys.stderr, flush=True)


def _as_in_validation(loops: dict[str, Any]) -> None:
    """Say that the batch is done and its validation has begun: a resumed run validates first."""
    progress = loops["epoch_loop.batch_progress"]
    for counts in (progress["current"], progress["total"]):
        counts["completed"] = counts["processed"]
    validation = loops["epoch_loop.val_loop.batch_progress"]
    nothing = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
    validation["current"] = dict(nothing)
    validation["total"] = nothing | {"ready": 1, "started": 1}
    validation["is_last_batch"] = False


class BestCheckpoint(ModelCheckpoint):
    """Keeps `best.ckpt`: the lowest `val_loss` of a run, over all its interruptions."""

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="val_loss", enable_version_counter=False)
        self.guard: Guard | None = None
        self._origin: Path | None = None
        self._resumes = True
        self._writes = False

    def check_monitor_top_k(self, trainer: Trainer, current: torch.Tensor | None = None) -> bool:
        """Whether this loss is the best so far; never behind a step that is not finite."""
        finite = current is not None and bool(torch.isfinite(current))
        fine = finite and (self.guard is None or self.guard.fine)
        return fine and super().check_monitor_top_k(trainer, current)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember where the run that is resumed has its checkpoints."""
        self._resumes = trainer.state.fn == "fit"  # the other commands only look at weights
        if trainer.ckpt_path:
            self._origin = Path(str(trainer.ckpt_path)).parent
            self._writes = trainer.is_global_zero

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best weights so far into the folder of the resumed run."""
        assert self.dirpath is not None
        best = Path(self.dirpath) / "best.ckpt"
        if state_dict["best_model_score"] is None or not self._resumes:
            return
        if self._origin is not None:
            if not (self._origin / "best.ckpt").is_file():
                return
            if self._writes:  # the others only have to agree on what is the best
                place(self._origin / "best.ckpt", best)
        self.best_model_path = self.kth_best_model_path = str(best)
        self.best_model_score = self.kth_value = state_dict["best_model_score"]
        self.best_k_models = {str(best): state_dict["best_model_score"]}
