"""Speed and memory of a training run."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning import LightningModule, Trainer

    from tuner.data.batching import Batch


class Throughput(Callback):
    """Counts examples and tokens, padding apart, and logs `tokens_per_second` over all devices.

    Validation and generation do not count as training time. Counts survive a resume.
    """

    def __init__(self) -> None:
        self.examples = 0
        self.tokens = 0
        self.seconds = 0.0
        self._began = 0.0
        self._step = 0
        self._counts = [0, 0]  # examples and tokens of this device since the last step
        self._saved: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """The counts up to the last optimiser step: a resume goes on from there."""
        return self._saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._saved = state_dict
        self.examples = state_dict["examples"]
        self.tokens = state_dict["tokens"]
        self.seconds = state_dict["seconds"]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Start the clock of a batch."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: torch.Tensor | Mapping[str, Any] | None,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count a batch; when the optimiser has stepped, over all devices."""
        self.seconds += time.perf_counter() - self._began
        self._counts = [self._counts[0] + len(batch["rows"]), self._counts[1] + batch["tokens"]]
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            local = torch.tensor(self._counts, device=pl_module.device)
            examples, tokens = trainer.strategy.reduce(local, reduce_op="sum").tolist()
            self.examples += examples
            self.tokens += tokens
            self._counts = [0, 0]
            counts = {"examples": self.examples, "tokens": self.tokens}
            self._saved = counts | {"seconds": self.seconds}
        pl_module.log_dict(
            {
                "tokens_seen": float(self.tokens),
                "examples_seen": float(self.examples),
                "tokens_per_second": self.tokens_per_second,
                "peak_memory_mib": peak_memory_mib(),
            }
        )

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second of training, padding apart."""
        return self.tokens / self.seconds if self.seconds else 0.0


def peak_memory_mib() -> float:
    """Most memory held so far, in MiB: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
