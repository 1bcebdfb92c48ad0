"""Learning rate over optimiser steps: warm-up, then decay."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from lightning.pytorch.cli import ReduceLROnPlateau, instantiate_class
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tuner.errors import UserError, nearest

VALIDATED = ("val_loss", "val_perplexity")  # what a schedule can watch


class WarmUp(LambdaLR):
    """Linear warm-up to the optimiser's rate, then constant, linear or cosine decay.

    Stepped once an optimiser step. With w warm-up steps of t in all, step i (from 0) runs at
    (i + 1) / (w + 1) of the rate while i < w, then at decay((i - w) / (t - w)).

    Args:
        optimizer: the optimiser whose rate is scaled.
        warmup: steps of warm-up (1 or more), or their share of all steps (below 1).
        decay: shape after the warm-up.
        floor: share of the rate that is left at the end.
        total_steps: optimiser steps in all; taken from the trainer when null.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup: float = 0.03,
        decay: Literal["constant", "linear", "cosine"] = "cosine",
        floor: float = 0.0,
        total_steps: int | None = None,
    ) -> None:
        if warmup < 0 or (warmup > 1 and warmup % 1):
            raise UserError(
                f"lr_scheduler.warmup: {warmup} is not allowed; give a share below 1 or whole steps"
            )
        if not 0 <= floor <= 1:
            raise UserError(f"lr_scheduler.floor: {floor} is not allowed; give 0 to 1")
        if total_steps is None:
            raise ValueError("total_steps is needed where no trainer fills it in")
        if total_steps < 1:
            raise UserError(
                f"lr_scheduler.total_steps: {total_steps} is not allowed; give 1 or more"
            )
        steps = round(warmup * total_steps) if warmup < 1 else int(warmup)
        shapes: dict[str, Callable[[float], float]] = {
            "constant": lambda share: 1.0,
            "linear": lambda share: 1.0 - share,
            "cosine": lambda share: 0.5 * (1.0 + math.cos(math.pi * share)),
        }

        def scale(step: int) -> float:
            if step < steps:
                return (step + 1) / (steps + 1)
            share = min((step - steps) / max(total_steps - steps, 1), 1.0)
            return floor + (1.0 - floor) * shapes[decay](share)

        super().__init__(optimizer, scale)


def make_scheduler(
    optimizer: Optimizer, group: dict[str, Any], steps: Callable[[], int]
) -> dict[str, Any]:
    """The `lr_scheduler` group of a configuration, made and described for Lightning.

    Args:
        optimizer: the optimiser whose rate is scaled.
        group: class_path and init_args.
        steps: gives the optimiser steps of the run, asked only by a schedule that needs them.

    Raises:
        UserError: it watches what no validation tells.
    """
    group = {**group, "init_args": dict(group.get("init_args") or {})}
    own = group["class_path"] == f"{WarmUp.__module__}.{WarmUp.__qualname__}"
    if own and group["init_args"].get("total_steps") is None:
        group["init_args"]["total_steps"] = steps()
    scheduler = instantiate_class(optimizer, group)
    if isinstance(scheduler, ReduceLROnPlateau):
        if scheduler.monitor not in VALIDATED:
            raise UserError(
                f"lr_scheduler.monitor: '{scheduler.monitor}' is not known in a validation. "
                f"{nearest(scheduler.monitor, VALIDATED)}"
            )
        return {"scheduler": scheduler, "monitor": scheduler.monitor}
    return {"scheduler": scheduler, "interval": "step"}


def total_steps(epoch: int, max_epochs: int | None, max_steps: int) -> int:
    """Optimiser steps of a whole run, whichever of its two limits comes first.

    Args:
        epoch: optimiser steps an epoch.
        max_epochs: `trainer.max_epochs`; -1 for no limit.
        max_steps: `trainer.max_steps`; -1 for no limit.

    Raises:
        UserError: neither is a limit.
    """
    epochs = -1 if max_epochs is None else max_epochs
    if epochs < 0 and max_steps < 0:
        raise UserError(
            "lr_scheduler.total_steps: trainer.max_epochs and trainer.max_steps are both -1, so "
            "there is no end to decay to; give one of the three"
        )
    return min(count for count in (epochs * epoch, max_steps) if count >= 0)
