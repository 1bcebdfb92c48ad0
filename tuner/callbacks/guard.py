"""Steps whose loss or gradients are not finite are skipped, named, and not many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch.distributed.tensor import DTensor

from tuner.devices import gathered
from tuner.errors import UserError

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer
    from torch import Tensor
    from torch.optim import Optimizer

    from tuner.data.batching import Batch

SHOWN = 8  # rows named in a message


class Guard(Callback):
    """Leaves out an optimiser step whose loss or gradients are not finite.

    Weights and moments stay as they are, the schedule goes on, and nothing is saved until a step
    is fine again. The rows of the step are named. It costs a wait for the device a step.

    Args:
        max_skipped_steps: steps that may be skipped in a run; one more stops it.
    """

    def __init__(self, max_skipped_steps: int = 10) -> None:
        if max_skipped_steps < 0:
            raise UserError(
                f"guard.max_skipped_steps: {max_skipped_steps} is not allowed; give 0 or more"
            )
        self.max_skipped_steps = max_skipped_steps
        self.skipped: list[dict[str, Any]] = []
        self.fine = True
        self._losses: list[tuple[list[int], Tensor]] = []  # of the step's batches so far
        self._rows: list[int] = []

    def state_dict(self) -> dict[str, Any]:
        """What was skipped: the bound holds over all interruptions."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = state_dict["skipped"]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Remember the rows of the batch."""
        self._rows = batch["rows"]

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Remember the batch's loss, without waiting for it."""
        self._losses.append((self._rows, loss.detach()))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Drop the gradients of a step that is not finite: without them, nothing is changed.

        Raises:
            UserError: too many steps had to be skipped.
        """
        losses, self._losses = self._losses, []
        every = [p for group in optimizer.param_groups for p in group["params"]]
        trained = [p for p in every if p.grad is not None]
        checked = torch.stack([loss for _, loss in losses]).sum()
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            # A gradient that overflows under a loss scaler is the scaler's to deal with.
            checked = checked + torch.nn.utils.get_total_norm([_own(p.grad) for p in trained])
        bad = trainer.strategy.reduce((~torch.isfinite(checked)).float(), reduce_op="sum")
        self.fine = not bool(bad)
        if self.fine:
            return
        for parameter in trained:
            parameter.grad = None
        ids = _ids(trainer, losses)
        self.skipped.append({"step": trainer.global_step, "rows": ids})
        named = ", ".join(ids[:SHOWN]) + (f" and {len(ids) - SHOWN} more" if ids[SHOWN:] else "")
        said = f"step {trainer.global_step}: loss or gradients are not finite (rows {named})"
        if len(self.skipped) > self.max_skipped_steps:
            raise UserError(
                f"guard.max_skipped_steps: {said}, after {self.max_skipped_steps} skipped steps. "
                "Lower optimizer.lr, use another trainer.precision, or look at these rows: "
                "tuner preview --rows all --json has them by id"
            )
        rank_zero_warn(f"{said}; skipped")


def _own(gradient: Any) -> Tensor:
    """The part of a gradient that this device holds."""
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient


def _ids(trainer: Trainer, losses: list[tuple[list[int], Tensor]]) -> list[str]:
    """Ids of the rows whose batch has a loss that is not finite; of all rows where none has."""
    curated = trainer.datamodule.curated  # pyright: ignore[reportAttributeAccessIssue]
    bad = [row for rows, loss in losses if not torch.isfinite(loss) for row in rows]
    # Every device is here: what is bad was added up over them.
    found = gathered([(bad, [row for rows, _ in losses for row in rows])])
    rows = [row for bad, _ in found for row in bad]
    rows = rows or [row for _, every in found for row in every]
    return [curated.splits["train"][row].id for row in rows]
