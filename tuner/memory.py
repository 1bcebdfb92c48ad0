"""What to say, and to change, when memory runs out."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import torch

from tuner.errors import UserError
from tuner.hardware import find_device
from tuner.out_of_memory import is_out_of_memory
from tuner.planner import Planner, Settings, mib

if TYPE_CHECKING:
    from lightning import Trainer

    from tuner.data.datamodule import ConversationData
    from tuner.module import ChatTuner


@contextmanager
def explained(trainer: Trainer, module: ChatTuner, data: ConversationData) -> Generator[None]:
    """Turn running out of memory into a message with what to change.

    Raises:
        UserError: memory ran out inside.
    """
    resident = psutil.Process().memory_info().rss
    try:
        yield
        return
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the step's tensors
        said = (str(error).splitlines() or ["out of memory"])[0]
    where = (
        f"out of memory at step {trainer.global_step} with data.batch_size {data.batch_size} and "
        f"data.max_length {data.max_length} ({said})"
    )
    try:
        advice = _advice(trainer, module, data, resident)
    except (RuntimeError, MemoryError):  # too little is left even to work it out
        advice = "`tuner plan` with the same options says what takes the memory and what would fit"
    raise UserError(f"{where}. {advice}")


@contextmanager
def told_while_loading() -> Generator[None]:
    """Turn running out of memory before the first step into a message.

    Raises:
        UserError: memory ran out inside.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        said = (str(error).splitlines() or ["no memory"])[0]
        raise UserError(
            f"model.base, model.head: out of memory while the model was being made ({said}). "
            "`tuner plan` with the same options says what takes the memory and what would fit"
        ) from error


def _advice(trainer: Trainer, module: ChatTuner, data: ConversationData, resident: int) -> str:
    settings = Settings(
        str(trainer.precision),
        data.batch_size,
        data.max_length,
        trainer.accumulate_grad_batches,
    )
    on_gpu = trainer.strategy.root_device.type == "cuda"
    device = find_device(None if on_gpu else "cpu", torch.float32)
    planner = Planner(module, settings, device)
    if not on_gpu:  # the process already holds the weights
        held = planner.parts(1)
        loaded = held["weights"] + held["adapter"]
        planner.device = replace(device, program=max(resident - loaded, 0))
    parts = planner.parts(settings.batch_size)
    takes = ", ".join(f"{part} {mib(size)}" for part, size in parts.items() if size)
    lines = [f"Such a step takes {mib(sum(parts.values()))}: {takes}"]
    remedies = planner.remedies()
    if remedies:
        lines += [f"With {mib(device.memory)} these fit:", *(f"  {remedy}" for remedy in remedies)]
    if sum(parts.values()) <= device.memory:
        lines.append("By this arithmetic it fits: look for other programs that hold memory")
    return "\n".join(lines)
