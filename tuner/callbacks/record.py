"""run.json: what was run, on what, and what came of it."""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback

from tuner.callbacks.guard import Guard
from tuner.callbacks.throughput import Throughput, peak_memory_mib
from tuner.data.card import write_card
from tuner.data.curate import REJECTED
from tuner.data.datamodule import ConversationData
from tuner.module import ChatTuner
from tuner.private import without_secrets
from tuner.runs import write_record

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer

PACKAGES = ("tuner", "torch", "lightning", "transformers", "peft", "bitsandbytes", "datasets")


class RunRecord(Callback):
    """Writes the data card when training starts, and run.json at start and end.

    Args:
        throughput: where the counts come from.
    """

    def __init__(self, throughput: Throughput) -> None:
        self.throughput = throughput
        self.folder: Path | None = None  # set once the run has its folder
        self.guard: Guard | None = None
        self.record: dict[str, Any] = {}
        self._began = 0.0
        self._trained: dict[str, float] = {}
        self.best: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """The metrics of the best validation, which may lie before an interruption."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with them."""
        self.best = state_dict["best"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write down what is about to run."""
        if self.folder is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, ChatTuner)
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(data, ConversationData)
        assert data.curated is not None
        write_card(data.card, self.folder)
        shutil.copyfile(data.curated.folder / REJECTED, self.folder / REJECTED)
        trained = sum(p.numel() for p in pl_module.trainable().values())
        count = pl_module.model.num_parameters  # of a quantised weight, what it stands for
        whole = count() - count(only_trainable=True) + trained  # it leaves virtual tokens out
        self._began = time.perf_counter()
        self.record = {
            "status": "running",
            "command": without_secrets(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "resumed_from": trainer.ckpt_path and str(trainer.ckpt_path),
            **environment(trainer),
            **pl_module.identity(),
            "from_scratch": pl_module.from_scratch,
            "weights_sha256": pl_module.weights_sha256,
            "trainable_params": trained,
            "total_params": whole,
            "trainable_percent": 100 * trained / whole,
        }
        write_record(self.folder, self.record)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the last metrics of the training: a validation after it starts anew."""
        self._trained = _numbers(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the metrics of the best validation."""
        metrics = self._trained | _numbers(trainer)
        loss = metrics.get("val_loss", float("inf"))
        if not trainer.sanity_checking and loss < self.best.get("val_loss", float("inf")):
            self.best = metrics | {"step": trainer.global_step}

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Say that the run was stopped or failed, and by what."""
        with suppress(OSError):  # on a full disk, what stopped the run matters more
            error = without_secrets(f"{type(exception).__name__}: {exception}")
            self.finish(trainer, status="stopped", error=error)

    def finish(self, trainer: Trainer, **more: Any) -> None:
        """Write down what came of the run.

        Args:
            trainer: the trainer of the run.
            more: further keys of run.json; `status` is one.
        """
        if self.folder is None or not self.record:
            return
        self.record |= {
            "seconds": round(time.perf_counter() - self._began, 2),
            "training_seconds": round(self.throughput.seconds, 2),
            "steps": trainer.global_step,
            "examples_seen": self.throughput.examples,
            "tokens_seen": self.throughput.tokens,
            "tokens_per_second": round(self.throughput.tokens_per_second, 1),
            "peak_memory_mib": round(peak_memory_mib(), 1),
            "last": self._trained | _numbers(trainer),
            "best": self.best,
            "skipped_steps": self.guard.skipped if self.guard else [],
            **more,
        }
        write_record(self.folder, self.record)


def environment(trainer: Trainer) -> dict[str, Any]:
    """Versions, hardware and commit that a result depends on."""
    found = machine()
    found["hardware"] |= {"devices": trainer.world_size, "precision": str(trainer.precision)}
    return found


def machine() -> dict[str, Any]:
    """Versions, hardware and commit, whatever runs on them."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "hardware": {
            "machine": platform.machine(),
            "libc": " ".join(platform.libc_ver()),
            "cpus": torch.get_num_threads(),
            "gpus": gpus,
        },
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of the code, `+` behind it when files differ from it; None outside git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True
        )
    except OSError:
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _numbers(trainer: Trainer) -> dict[str, float]:
    return {key: float(value) for key, value in trainer.callback_metrics.items()}
