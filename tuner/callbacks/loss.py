"""The loss of each optimiser step, in the logs and as a picture."""

from __future__ import annotations

import time
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning import LightningModule, Trainer

    from tuner.data.batching import Batch

Points = list[tuple[int, float]]
PAUSE = 30  # seconds between two pictures of a training: a curve moves slowly
FINEST = 1000  # points of a curve at least, once there were as many: more than a picture shows


class Curve:
    """The losses of a run however long it is: the means of more and more neighbouring steps.

    Attributes:
        points: (last step, mean loss) of each stretch of steps, at most twice `FINEST`.
    """

    def __init__(self) -> None:
        self.points: Points = []
        self._stretch = 1  # steps a point
        self._open: list[float] = []

    def add(self, step: int, loss: float) -> None:
        """Take the next step's loss; one that is not finite has no place in a picture."""
        if not isfinite(loss):
            return
        self._open.append(loss)
        if len(self._open) < self._stretch:
            return
        self.points.append((step, sum(self._open) / len(self._open)))
        self._open.clear()
        if len(self.points) == 2 * FINEST:
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [(step, (one + two) / 2) for (_, one), (step, two) in pairs]
            self._stretch *= 2


class LossTracker(Callback):
    """Logs `train_loss`: nats a token over the whole optimiser step, on all devices."""

    def __init__(self) -> None:
        self.folder: Path | None = None  # set once the run has its folder
        self.train = Curve()
        self.val: Points = []
        self._last: tuple[int, torch.Tensor] | None = None  # a step's loss that is not read yet
        self._sum: torch.Tensor | None = None
        self._step = 0
        self._drawn = time.monotonic()
        self._picture: Picture | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from where a resumed run stands."""
        self._step = trainer.global_step
        self._sum = torch.zeros((), device=pl_module.device)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: torch.Tensor | Mapping[str, Any] | None,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Add up the micro-batches; log when the optimiser has stepped."""
        assert isinstance(outputs, dict)
        assert self._sum is not None
        self._sum += outputs["loss_sum"]
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        total: torch.Tensor = trainer.strategy.reduce(self._sum, reduce_op="sum")
        loss = total / max(batch["step_targets"], 1)
        self._sum = torch.zeros((), device=pl_module.device)
        pl_module.log("train_loss", loss, on_step=True, on_epoch=False, prog_bar=True)
        self._read()
        self._last = self._step, loss.detach()  # read a step later: no wait for the device

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the validation loss."""
        loss = trainer.callback_metrics.get("val_loss")
        if loss is not None and not trainer.sanity_checking:
            self.val.append((trainer.global_step, float(loss)))
            if time.monotonic() - self._drawn > PAUSE:
                self.draw(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Draw what there is of a run that was stopped."""
        with suppress(Exception):  # what stopped it matters more
            self.draw(trainer)

    def draw(self, trainer: Trainer) -> None:
        """Draw the curves as they are."""
        self._read()
        self._drawn = time.monotonic()
        if self.folder is not None and trainer.is_global_zero:
            self._picture = self._picture or Picture()  # matplotlib takes a while to import
            self._picture.draw(self.train.points, self.val, self.folder / "loss.png")

    def _read(self) -> None:
        if self._last is not None:
            step, loss = self._last
            self.train.add(step, float(loss))
            self._last = None


class Picture:
    """The curves of training and validation loss over optimiser steps.

    One figure serves a whole training: Python keeps some megabytes of each that is made until it
    looks for cycles among all objects, which can take hours. So it is faster, too.
    """

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._figure = Figure(figsize=(7, 4))
        FigureCanvasAgg(self._figure)
        # A layout engine takes as long as the drawing.
        self._axes = axes = self._figure.add_axes((0.1, 0.12, 0.88, 0.85))
        (self._train,) = axes.plot([], [], color="tab:blue", alpha=0.35, linewidth=1, label="train")
        (self._smooth,) = axes.plot([], [], color="tab:blue", label="train, smoothed")
        (self._val,) = axes.plot([], [], "o-", color="tab:orange", label="validation")
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("loss (nats a token)")
        axes.grid(alpha=0.3)
        axes.legend()

    def draw(self, train: Sequence[tuple[int, float]], val: Points, file: Path) -> None:
        """Draw what there is by now.

        Args:
            train: (step, nats a token) of the training loss.
            val: likewise of the validation loss.
            file: the PNG to write.
        """
        self._train.set_data(*_columns(train))
        self._smooth.set_data(*_columns(_smooth(train)))
        self._val.set_data(*_columns(val))
        self._axes.relim()
        self._axes.autoscale_view()
        self._figure.savefig(file, dpi=110)


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [loss for _, loss in points]


def _smooth(points: Sequence[tuple[int, float]], weight: float = 0.9) -> Points:
    """Exponential moving average, corrected for its start."""
    smooth: Points = []
    average = 0.0
    for count, (step, loss) in enumerate(points, start=1):
        average = weight * average + (1 - weight) * loss
        smooth.append((step, average / (1 - weight**count)))
    return smooth
