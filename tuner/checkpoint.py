"""Checkpoints that a crash cannot spoil."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException
from typing_extensions import override

from tuner.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning import LightningModule, Trainer


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a name always holds a whole checkpoint.

    Lightning's own way passes through the system's temporary folder, which is not atomic where
    that is another file system. Loading never runs code from the file.
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write, flush to the disk, then rename."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    @override
    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load tensors and plain values only.

        Raises:
            UserError: the file is missing, cut off, or holds something else.
        """
        return load_checkpoint(Path(path))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU.

    Raises:
        UserError: the file is missing, cut off, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise UserError(f"ckpt_path: no such file: {path}. Allowed: last, best, or a .ckpt file")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load itself checks no checksums
            if (spoilt := archive.testzip()) is not None:
                raise ValueError(f"checksum of {spoilt} is wrong")
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each raise their own
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"ckpt_path: {path} is no usable checkpoint ({reason})") from error
    if not isinstance(found, dict) or not {"tuner", "state_dict"} <= found.keys():
        raise UserError(f"ckpt_path: {path} is no checkpoint of this project's fit")
    return found


def refuse_misfit(
    checkpoint: Mapping[str, Any], own: Mapping[str, Any], trained: Mapping[str, torch.Tensor]
) -> None:
    """Refuse a checkpoint of another base or head, or one that lacks a weight.

    Args:
        checkpoint: the content of the file.
        own: what the run's checkpoints belong to (base, revision, quantize, head, weights_sha256).
        trained: the run's trained weights by name.

    Raises:
        UserError: it does not fit.
    """
    found = dict(checkpoint["tuner"])
    # A base is known by its weights; by its name where these are not at hand.
    same = ["quantize", "head"]
    by_hash = found.get("weights_sha256") and own["weights_sha256"]
    same += ["weights_sha256"] if by_hash else ["base", "revision"]
    if any(found.get(key) != own[key] for key in same):
        raise UserError(f"ckpt_path: made for {found}, but this run has {own}")
    shapes = {name: tuple(p.shape) for name, p in trained.items()}
    saved = {name: tuple(t.shape) for name, t in checkpoint["state_dict"].items()}
    differing = sorted({name for name, _ in shapes.items() ^ saved.items()})
    if differing:
        name = differing[0]
        raise UserError(
            f"ckpt_path: {len(differing)} weights do not fit the head, such as {name}: shape "
            f"{saved.get(name, 'missing')} in the file, {shapes.get(name, 'none')} here"
        )


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt` up to date: every so many optimiser steps, at the end, and when stopped.

    Lightning runs callbacks of this kind after all others, so what those count is saved whole.

    Args:
        every_n_steps: optimiser steps between two saves.
    """

    def __init__(self, every_n_steps: int = 200) -> None:
        self.every_n_steps = every_n_steps
        self.folder: Path | None = None  # set once the run has its folder
        self._saved = 0

    def _save(self, trainer: Trainer) -> None:
        if self.folder is not None and trainer.global_step > self._saved:
            self._saved = trainer.global_step
            trainer.save_checkpoint(self.folder / "last.ckpt")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from where a resumed run stands."""
        self._saved = trainer.global_step

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

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Count back to the last optimiser step: gradients since then are not saved."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        done = progress["current"]["processed"]
        open_batches = 0 if progress["is_last_batch"] else done % trainer.accumulate_grad_batches
        for counts in (progress["current"], progress["total"]):
            if counts["ready"] > counts["processed"]:  # stopped in the middle of a batch
                counts["ready"] = counts["started"] = counts["processed"]
            for key in counts:
                counts[key] -= open_batches
        if done == 0:
            # Lightning takes an epoch of which nothing is done for one that has just been
            # validated, and counts an idle round as a logged step.
            checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of the training."""
        self._save(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save when the run is asked to stop; after any other error the weights may be bad."""
        if isinstance(exception, SIGTERMException | KeyboardInterrupt):
            self._save(trainer)
