"""Memory and time of a training step, and what makes it fit, before anything is loaded."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.hardware import keeps_freed_memory
from tuner.heap import kept
from tuner.rehearsal import Footprint, Rehearsal

if TYPE_CHECKING:
    from tuner.hardware import Device
    from tuner.module import ChatTuner


@dataclass(frozen=True)
class Settings:
    """What decides about memory, beside base, head and optimiser.

    Attributes:
        precision: the trainer's.
        batch_size: rows of a micro-batch.
        max_length: tokens of a row; every row is taken to be as long.
        accumulate: micro-batches of an optimiser step.
    """

    precision: str
    batch_size: int
    max_length: int
    accumulate: int = 1


class Planner:
    """Works out plans of one model on one device.

    Args:
        module: what `fit` would train.
        settings: how.
        device: where; one device of it.

    Raises:
        UserError: see `Rehearsal`.
    """

    def __init__(self, module: ChatTuner, settings: Settings, device: Device) -> None:
        self.module = module
        self.settings = settings
        self.device = device
        self._rehearsal = Rehearsal(
            module, settings.precision, accumulate=settings.accumulate > 1, gpu=device.gpu
        )

    def parts(self, rows: int, length: int | None = None) -> dict[str, int]:
        """Bytes by part at the peak of a step, with those of the program and the allocator."""
        return self._with_device(self._rehearsal.step(rows, length or self.settings.max_length))

    def _with_device(self, step: Footprint) -> dict[str, int]:
        held = 0 if self.device.gpu or not keeps_freed_memory() else kept(step.events)
        return {**step.parts, "allocator": held, "program": self.device.program}

    def plan(self) -> dict[str, Any]:
        """The plan as plain values: bytes, seconds, rows."""
        settings, device = self.settings, self.device
        step = self._rehearsal.step(settings.batch_size, settings.max_length)
        parts = self._with_device(step)
        seconds = self._seconds(step)
        rows = settings.batch_size * settings.accumulate
        return {
            "device": device.name,
            "memory": device.memory,
            "batch_size": settings.batch_size,
            "max_length": settings.max_length,
            "parts": parts,
            "peak": sum(parts.values()),
            "fits": sum(parts.values()) <= device.memory,
            "largest_batch": self.largest_batch(),
            "seconds_per_step": seconds,
            "tokens_per_second": seconds and rows * settings.max_length / seconds,
            "basis": device.basis,
        }

    def largest_batch(self) -> int:
        """Rows of the largest micro-batch that fits; 0 when not even one row does."""
        room = self.device.memory
        one, nine = (sum(self.parts(rows).values()) for rows in (1, 9))
        if one > room:
            return 0
        # Memory grows by the same with every row once a row weighs more than fixed work space.
        rows = max(1, int(1 + 8 * (room - one) / max(nine - one, 1)))
        while rows > 1 and sum(self.parts(rows).values()) > room:
            rows = min(rows - 1, int(rows * 0.97))
        return rows

    def _seconds(self, step: Footprint) -> float | None:
        if not self.device.flops or not self.device.bandwidth:
            return None
        once = step.flops / self.device.flops + step.moved / self.device.bandwidth
        return once * self.settings.accumulate

    def remedies(self) -> list[str]:
        """Changes that make a step fit, each worked out: options and the peak with them."""
        settings, found = self.settings, list[str]()
        batch = self.largest_batch()
        if 0 < batch < settings.batch_size:
            rows = settings.batch_size * settings.accumulate
            while rows % batch:  # the step keeps its rows
                batch -= 1
            found.append(
                f"--data.batch_size {batch} --trainer.accumulate_grad_batches {rows // batch} "
                f"(the same step): {mib(sum(self.parts(batch).values()))}"
            )
        for option, changes in (
            ("--model.gradient_checkpointing true", {"gradient_checkpointing": True}),
            ("--model.quantize nf4", {"quantize": "nf4"}),
            (
                "--model.gradient_checkpointing true --model.quantize nf4",
                {"gradient_checkpointing": True, "quantize": "nf4"},
            ),
        ):
            changed = copy(self.module)
            for key, value in changes.items():
                setattr(changed, key, value)
            same = any(getattr(self.module, key) for key in changes)
            if same or changed.head.impossible(changed.settings()):
                continue
            peak = sum(Planner(changed, settings, self.device).parts(settings.batch_size).values())
            if peak <= self.device.memory:
                found.append(f"{option}: {mib(peak)}")
        length = settings.max_length // 2
        if length and (peak := sum(self.parts(settings.batch_size, length).values())) <= (
            self.device.memory
        ):
            found.append(f"--data.max_length {length}: {mib(peak)}")
        return found


def mib(size: int) -> str:
    """Bytes as MiB, for people."""
    return f"{size / 2**20:,.0f} MiB"
