"""The one data module: source -> curation -> prompt -> encoded splits -> batches."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning as L
from torch.utils.data import DataLoader

from tuner.data.batching import Batch, EvalBatches, Joined, TrainBatches
from tuner.data.cache import cached, key_of
from tuner.data.card import data_card
from tuner.data.clean import Cleaner
from tuner.data.curate import Curated, curate
from tuner.data.curation import Curation
from tuner.data.prompts import Prompt
from tuner.data.prompts.chat import Chat
from tuner.data.sources import Source
from tuner.data.store import EncodedRows
from tuner.errors import UserError
from tuner.plugins import settings_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tuner.module import ChatTuner


MOST_WORKERS = max(64, 4 * (os.cpu_count() or 1))  # each is a process of several hundred MiB


class ConversationData(L.LightningDataModule):
    """Conversations of one source, ready for training and evaluation.

    Args:
        source: the data set.
        prompt: how a conversation is written out as text.
        max_length: longest row in tokens; longer ones are dropped and counted, never cut.
        batch_size: rows a device and micro-batch.
        val_size: validation rows, as a share (float) or a count (int) of the rows.
        test_size: test rows, likewise.
        seed: seed of the split and of the training order.
        num_workers: processes that build batches; 0 builds them in the training process.
        curation: what is done to the rows between source and model.
        cache_dir: folder in which prepared data is kept for the next start; null keeps none.
    """

    def __init__(
        self,
        source: Source,
        prompt: Prompt | None = None,
        max_length: int = 512,
        batch_size: int = 8,
        val_size: int | float = 0.1,
        test_size: int | float = 0.1,
        seed: int = 42,
        num_workers: int = 0,
        curation: Curation = Curation(),  # noqa: B008  # frozen
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        for key, value in (("max_length", max_length), ("batch_size", batch_size)):
            if value < 1:
                raise UserError(f"data.{key}: {value} is not allowed; give 1 or more")
        for key, value in (("num_workers", num_workers), ("seed", seed)):
            if value < 0:
                raise UserError(f"data.{key}: {value} is not allowed; give 0 or more")
        if num_workers > MOST_WORKERS:
            raise UserError(
                f"data.num_workers: {num_workers} is not allowed; give {MOST_WORKERS} or fewer, or "
                "0 to build batches in the process that trains"
            )
        self.source = source
        self.prompt = prompt or Chat()
        self.max_length = max_length
        self.batch_size = batch_size
        self.val_size = val_size
        self.test_size = test_size
        self.seed = seed
        self.num_workers = num_workers
        self.curation = curation
        self.cache_dir = cache_dir
        self.tokenizer: PreTrainedTokenizerBase | None = None
        self.curated: Curated | None = None
        self.card: dict[str, Any] = {}

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> Curated:
        """Read, curate, split and encode, or take what an earlier start has left in the cache.

        Args:
            tokenizer: the base model's.

        Raises:
            UserError: the data cannot be read or leaves nothing to train on.
        """
        if self.curated is None:
            self.prompt.check(tokenizer)
            self.tokenizer = tokenizer
            provenance = self.source.provenance()
            settings: dict[str, Any] = {
                "prompt": settings_of(self.prompt),
                "curation": settings_of(self.curation),
                "max_length": self.max_length,
                "val_size": self.val_size,
                "test_size": self.test_size,
                "seed": self.seed,
            }
            self.curated = cached(
                key_of({**settings, "source": provenance}, tokenizer, [self.source, self.prompt]),
                Path(self.cache_dir) if self.cache_dir else None,
                self._curate,
            )
            self.card = data_card(self.curated, provenance, settings, tokenizer)
        return self.curated

    def _curate(self, folder: Path) -> Curated:
        assert self.tokenizer is not None
        return curate(
            self.source.items(),
            Cleaner(self.curation, self.prompt, self.tokenizer, self.max_length, self.seed),
            folder,
            val_size=self.val_size,
            test_size=self.test_size,
            hint=self.source.hint,
        )

    def setup(self, stage: str) -> None:
        """Prepare with the module's tokenizer; Lightning calls this on every device."""
        if self.curated is None:
            assert self.trainer is not None
            self.prepare(cast("ChatTuner", self.trainer.lightning_module).tokenizer)

    def state_dict(self) -> dict[str, Any]:
        """How an epoch is cut: one that is cut otherwise cannot go on in the middle."""
        trainer = self.trainer
        assert trainer is not None
        return {
            "rows": self.batch_size * trainer.world_size,
            "accumulate": trainer.accumulate_grad_batches,
        }

    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch.

        Lightning's own estimate would build the loader, before a resume knows where it goes on.
        """
        sampler = self._train_batches()
        return -(-sampler.length // sampler.accumulate)

    def _train_batches(self) -> TrainBatches:
        trainer = self.trainer
        assert trainer is not None
        return TrainBatches(
            self._rows("train"),
            batch_size=self.batch_size,
            accumulate=trainer.accumulate_grad_batches,
            world_size=trainer.world_size,
            rank=trainer.global_rank,
            seed=self.seed,
            limit=trainer.limit_train_batches,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the train split, shuffled by epoch, going on where a checkpoint stopped."""
        trainer = self.trainer
        assert trainer is not None
        if cast("Any", trainer).overfit_batches:  # it would put its own sampler in place of ours
            raise UserError("trainer.overfit_batches: not supported; use data.source.limit instead")
        sampler = self._train_batches()
        # Loops are restored before loaders are built, so the trainer knows where it stopped. An
        # epoch whose last batch is done may not be counted yet: the next one is what comes.
        done: int = trainer.fit_loop.epoch_loop.batch_progress.current.processed  # pyright: ignore
        epochs: Any = trainer.fit_loop.epoch_progress.current
        over = done >= sampler.length and epochs.ready > epochs.processed
        start = done if done < sampler.length else 0
        sampler.resume(trainer.current_epoch + over, start)
        return self._loader("train", sampler)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Every validation row once; no loader when `val_size` is 0."""
        return self._once("val") if self._rows("val") else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Every test row once.

        Raises:
            UserError: `test_size` is 0.
        """
        if not self._rows("test"):
            raise UserError("data.test_size: 0 leaves no test rows")
        return self._once("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test rows, for generation."""
        return self.test_dataloader()

    def _rows(self, split: str) -> EncodedRows:
        assert self.curated is not None
        return self.curated.encoded[split]

    def _once(self, split: str) -> DataLoader[Batch]:
        trainer = self.trainer
        assert trainer is not None
        sampler = EvalBatches(
            self._rows(split),
            batch_size=self.batch_size,
            world_size=trainer.world_size,
            rank=trainer.global_rank,
        )
        return self._loader(split, sampler)

    def _loader(self, split: str, sampler: TrainBatches | EvalBatches) -> DataLoader[Batch]:
        # Each sample is a whole batch already, so the loader does no batching of its own.
        return DataLoader(
            Joined(self._rows(split)),
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers,
            pin_memory=False,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_go_on_at_ctrl_c,
        )


def _go_on_at_ctrl_c(_: int) -> None:
    """Let the process that trains, which may need another batch until it stops, end this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
