"""What cannot work is refused before a run gets its folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, Timer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from tuner.backbone import context_length
from tuner.checkpoint import load_checkpoint, refuse_misfit
from tuner.devices import Sharded
from tuner.errors import UserError, intact
from tuner.hold import LOCK, Hold
from tuner.module import BASE_DTYPES
from tuner.runs import read_record
from tuner.schedule import total_steps

if TYPE_CHECKING:
    from lightning import Trainer

    from tuner.data.datamodule import ConversationData
    from tuner.module import ChatTuner


def refuse_pairs(trainer: Trainer, model: ChatTuner, data: ConversationData) -> None:
    """Make sure that settings go together, before anything but the base's configuration is read.

    Raises:
        UserError: a pair that cannot work, or a precision that would train in half precision.
    """
    refuse_devices(trainer)
    if model.init_adapter and not (Path(model.init_adapter) / "adapter_config.json").is_file():
        raise UserError(f"model.init_adapter: no adapter_config.json in {model.init_adapter}")
    sharded = isinstance(trainer.strategy, Sharded)
    if reason := model.head.impossible(model.settings() | {"sharded": sharded}):
        raise UserError(reason)
    compilers = (os.environ.get("CXX", "c++"), "g++", "clang++")
    if model.compile_blocks and not any(map(shutil.which, compilers)):
        raise UserError(
            "model.compile: there is no C++ compiler, which torch.compile needs; install g++, or "
            "set --model.compile false"
        )
    precision = str(trainer.precision)
    if precision not in BASE_DTYPES:
        raise UserError(
            f"trainer.precision: {precision} would train weights in half precision and lose "
            f"small updates. Allowed: {', '.join(BASE_DTYPES)} (the mixed ones store the "
            "frozen base in half precision already)"
        )
    if model.quantize and sharded:
        raise UserError(
            f"model.quantize, trainer.strategy: {model.quantize} weights cannot be split over "
            "devices; set --trainer.strategy ddp, or --model.quantize null"
        )
    refuse_long_rows(model, data)


def refuse_long_rows(model: ChatTuner, data: ConversationData) -> None:
    """Make sure that rows fit into what the base was made for.

    Raises:
        UserError: they do not, with the head's virtual tokens in front.
    """
    virtual, context = model.head.virtual_tokens, context_length(model.base, model.revision)
    if context is not None and data.max_length + virtual > context:
        keys = "data.max_length, model.head.num_virtual_tokens" if virtual else "data.max_length"
        raise UserError(
            f"{keys}: {data.max_length + virtual} positions are more than the {context} that "
            f"{model.base} was made for; set --data.max_length {max(context - virtual, 1)} or less"
        )


def refuse_devices(trainer: Trainer) -> None:
    """Make sure that the strategy is a supported one, and that every process counts itself in.

    Raises:
        UserError: another strategy, or the processes started are not those asked for.
    """
    strategy = trainer.strategy
    known = isinstance(strategy, SingleDeviceStrategy | DDPStrategy | Sharded)
    # A spawned process would keep what it learns from the one that exports it.
    if not known or getattr(strategy, "_start_method", "popen") != "popen":
        raise UserError(
            f"trainer.strategy: {type(strategy).__name__} is not supported. Allowed: auto, ddp, "
            "fsdp (PyTorch's fully_shard through Lightning's ModelParallelStrategy)"
        )
    asked = trainer.num_devices * trainer.num_nodes
    environment: Any = cast("Any", trainer)._accelerator_connector.cluster_environment
    outside = environment.creates_processes_externally
    started = environment.world_size() if outside else trainer.num_devices
    if not asked == started == trainer.world_size:
        raise UserError(
            f"trainer.devices, trainer.num_nodes, trainer.strategy: {trainer.num_devices} devices "
            f"on {trainer.num_nodes} machines are {asked} processes, but {started} are started "
            f"and {trainer.world_size} would compute together; start one on each device of each "
            "machine with torchrun or srun (docs/devices.md)"
        )


def refuse_impossible(trainer: Trainer, model: ChatTuner, data: ConversationData) -> None:
    """Make sure that there is something to train, and an optimiser to do it.

    Raises:
        UserError: a setting of trainer, optimizer or lr_scheduler does not fit.
    """
    if not 1 <= trainer.accumulate_grad_batches < 2**31:
        raise UserError(
            f"trainer.accumulate_grad_batches: {trainer.accumulate_grad_batches} is not allowed; "
            f"give 1 or more, up to {2**31 - 1:,}"
        )
    if any(
        isinstance(one, GradientAccumulationScheduler) for one in cast("Any", trainer).callbacks
    ):
        raise UserError(
            "trainer.callbacks: GradientAccumulationScheduler is not supported, as a step's loss "
            "counts the tokens of all its batches beforehand; set --trainer.accumulate_grad_batches"
        )
    if (trainer.gradient_clip_val or 0) < 0:
        raise UserError(
            f"trainer.gradient_clip_val: {trainer.gradient_clip_val} is not allowed; give 0 or "
            "more, or null"
        )
    batches = len(data.train_dataloader())
    if trainer.limit_train_batches == 0 or 0 in (trainer.max_steps, trainer.max_epochs):
        raise UserError(
            "trainer.max_epochs, trainer.max_steps, trainer.limit_train_batches: 0 leaves nothing "
            "to train; use validate or test to look at a model"
        )
    timers = [one for one in cast("Any", trainer).callbacks if isinstance(one, Timer)]
    if any((one.time_remaining() or 1) <= 0 for one in timers):
        raise UserError("trainer.max_time: leaves nothing to train; give more than 0 seconds")
    if trainer.check_val_every_n_epoch == 0:
        raise UserError(
            "trainer.check_val_every_n_epoch: 0 is not allowed; to leave validation out, set "
            "--trainer.limit_val_batches 0"
        )
    seconds: float | None = cast("Any", trainer)._val_check_time_interval
    every = trainer.val_check_interval if seconds is None else None
    if seconds is not None and (seconds <= 0 or trainer.world_size > 1):
        raise UserError(
            f"trainer.val_check_interval: {seconds:g} seconds are not allowed; give more than 0 "
            "on one device, and a number of batches on several, whose clocks differ"
        )
    if every == 0:
        raise UserError(
            "trainer.val_check_interval: 0 is not allowed; to leave validation out, set "
            "--trainer.limit_val_batches 0"
        )
    if isinstance(every, int) and trainer.check_val_every_n_epoch and every > batches:
        raise UserError(
            f"trainer.val_check_interval: {every} is more than the {batches} batches of an epoch; "
            "make it smaller, or count over epochs with --trainer.check_val_every_n_epoch null"
        )
    scheduler = _try_optimizer(model, trainer.strategy.root_device)
    if isinstance(scheduler, ReduceLROnPlateau) and (
        trainer.limit_val_batches == 0 or not data.val_dataloader()
    ):
        raise UserError(
            "lr_scheduler.monitor, data.val_size, trainer.limit_val_batches: there is no "
            "validation whose loss the schedule could watch"
        )
    if isinstance(scheduler, OneCycleLR) and max(trainer.max_epochs or -1, trainer.max_steps) > 0:
        steps = total_steps(data.steps_per_epoch(), trainer.max_epochs, trainer.max_steps)
        if scheduler.total_steps < steps:
            raise UserError(
                f"lr_scheduler.total_steps: the schedule ends after {scheduler.total_steps} steps "
                f"and this run has {steps}; give at least as many"
            )


def _try_optimizer(model: ChatTuner, device: torch.device) -> Any:
    """Take a step on a small weight: what optimiser or schedule refuse, they refuse here.

    Returns:
        The schedule; null when there is none.

    Raises:
        UserError: it went wrong.
    """
    weight = torch.nn.Parameter(torch.zeros(8, 8, device=device))
    weight.grad = torch.ones_like(weight)
    try:
        made = model.optimizer_over([weight])
        optimizer = made["optimizer"] if isinstance(made, dict) else made
        scheduler = made["lr_scheduler"]["scheduler"] if isinstance(made, dict) else None
        optimizer.step(lambda: torch.zeros(()))
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(0.0)
        elif scheduler is not None:
            scheduler.step()
    except UserError:
        raise
    except Exception as error:  # a class that the user chose may raise anything
        raise UserError(f"optimizer, lr_scheduler: {error}") from error
    return scheduler


def refuse_finished(
    trainer: Trainer, model: ChatTuner, data: ConversationData, file: str | Path
) -> None:
    """Make sure that a checkpoint fits the run and leaves it something to do.

    A run that was stopped after its last step has its export left to do.

    Raises:
        UserError: it cannot be read, fits another base or head, cuts an epoch in other batches,
            is at the end of the run, or the run that wrote it still goes on.
    """
    written_by = Path(file).resolve().parent.parent
    if trainer.is_global_zero and (written_by / LOCK).is_file():
        Hold(written_by).close()
    checkpoint = load_checkpoint(Path(file))
    own = model.identity() | {"weights_sha256": model.weights_sha256}
    now = data.state_dict()
    with intact(file):
        refuse_misfit(checkpoint, own, model.trainable())
        cut = {key: checkpoint.get(type(data).__qualname__, now)[key] for key in now}
        step = int(checkpoint["global_step"])
    if cut != now:
        raise UserError(
            f"ckpt_path, data.batch_size, trainer.devices, trainer.accumulate_grad_batches: {file} "
            f"was made with {cut['rows']} rows a batch over all devices, {cut['accumulate']} "
            f"batches a step; this run has {now['rows']} and {now['accumulate']}, so it would see "
            "rows twice or never. Let batch_size x devices x num_nodes and the accumulation be "
            "the same, or start anew from an export with --model.init_adapter"
        )
    if max(trainer.max_epochs or -1, trainer.max_steps) < 0:
        return  # no end
    end = total_steps(data.steps_per_epoch(), trainer.max_epochs, trainer.max_steps)
    if step >= end and read_record(written_by).get("status", "finished") == "finished":
        raise UserError(
            f"ckpt_path: {file} is at step {step}, and this run ends at step {end}; raise "
            "trainer.max_epochs or trainer.max_steps to go on"
        )
