"""Callbacks for `fit` that say when steps ended: the clocks of the benchmarks."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback


class StepClock(Callback):
    """Writes the end of each step, in seconds since the first one began, and its tokens.

    Args:
        file: JSON with `ends` (seconds) and `cpu` (seconds of all cores) at the end of each step,
            its `tokens` (of the rows), and `peak_mib`.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.found: dict[str, Any] = {"ends": [], "cpu": [], "tokens": []}
        self._began = 0.0
        self._step = 0
        self._sum = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._sum += batch["tokens"]
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        self.found["ends"].append(time.perf_counter() - self._began)
        self.found["cpu"].append(time.process_time())
        self.found["tokens"].append(self._sum)
        self._sum = 0

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        from tuner.callbacks.throughput import peak_memory_mib

        self.found["peak_mib"] = peak_memory_mib()
        self.file.write_text(json.dumps(self.found), encoding="utf-8")


class FirstStep(Callback):
    """Prints when the first optimiser step is done."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """Print seconds of the system's clock, which another process can compare with its own."""
        if trainer.global_step == 1:
            print(f"\nfirst step at {time.clock_gettime(time.CLOCK_MONOTONIC)}", flush=True)
