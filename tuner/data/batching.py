"""Batches of rows end to end, planned so that every optimiser step knows its token count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, Sampler

from tuner.data.encode import IGNORED, Encoded


class EncodedRows(Protocol):
    """Rows of a split, and the counts that planning asks of all of them.

    Attributes:
        lengths: (N,) tokens of each row.
        targets: (N,) tokens of each row that carry loss.
    """

    lengths: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __getitem__(self, place: int, /) -> Encoded:
        """The tokens and labels of a row."""
        ...


class Batch(TypedDict):
    """What the model is given: rows end to end, without padding.

    Attributes:
        input_ids: (N,) int64.
        labels: (N,) int64, -100 where there is no loss.
        lengths: tokens of each row; they add up to N.
        step_targets: number of tokens with loss in the whole optimiser step that this batch
            belongs to, over all its batches on all devices.
        tokens: N, but 0 where the batch is empty.
        rows: places of the rows in their split; none where the batch is empty, which is given as
            a row without labels.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    lengths: list[int]
    step_targets: int
    tokens: int
    rows: list[int]


@dataclass(frozen=True, slots=True)
class Planned:
    """One batch of a plan: rows, and the token count of its optimiser step."""

    rows: tuple[int, ...]
    step_targets: int


class Joined(Dataset[Batch]):
    """The batch of a `Planned`.

    Args:
        encoded: all rows of the split.
    """

    def __init__(self, encoded: EncodedRows) -> None:
        self.encoded = encoded

    def __getitem__(self, plan: Planned) -> Batch:
        """Build one batch; an empty plan gives one row without labels."""
        rows = [self.encoded[place] for place in plan.rows]
        return join(rows, step_targets=plan.step_targets, places=plan.rows)


def join(rows: Sequence[Encoded], *, step_targets: int = 0, places: Sequence[int] = ()) -> Batch:
    """Put rows into one batch, end to end; no rows give one row without labels.

    Args:
        rows: tokens and labels.
        step_targets: tokens with loss in the whole optimiser step, where it belongs to one.
        places: where the rows stand in their split.
    """
    tokens = sum(len(row.input_ids) for row in rows)
    rows = rows or [Encoded(np.zeros(2, np.int32), np.full(2, IGNORED, np.int32), 0)]
    ids, labels = (
        torch.from_numpy(np.concatenate([getattr(row, key) for row in rows])).long()
        for key in ("input_ids", "labels")
    )
    return Batch(
        input_ids=ids,
        labels=labels,
        lengths=[len(row.input_ids) for row in rows],
        step_targets=step_targets,
        tokens=tokens,
        rows=list(places),
    )


class TrainBatches(Sampler[Planned]):
    """The batches of one device for one epoch after the other.

    An epoch is a random permutation cut into optimiser steps. A step is sorted by length and cut
    into `accumulate` batches on each of `world_size` devices, so its rows depend on seed, epoch and
    the number of rows a step alone, not on how it is cut. The batches of the last step may be
    smaller or empty: each row is seen exactly once an epoch.

    Args:
        encoded: rows of the train split.
        batch_size: rows a batch.
        accumulate: batches an optimiser step on one device.
        world_size: number of devices.
        rank: this device.
        seed: seed of the order.
        limit: batches an epoch at most, as `trainer.limit_train_batches` (a share or a count).
    """

    def __init__(
        self,
        encoded: EncodedRows,
        *,
        batch_size: int,
        accumulate: int = 1,
        world_size: int = 1,
        rank: int = 0,
        seed: int = 0,
        limit: float | int = 1.0,
    ) -> None:
        self.lengths = encoded.lengths
        self.targets = encoded.targets
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.world_size = world_size
        self.rank = rank
        self.seed = seed
        self.whole = -(-len(encoded) // (batch_size * world_size))
        self.length = min(self.whole, limit) if isinstance(limit, int) else int(self.whole * limit)
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives; Lightning calls this."""
        self.epoch = epoch

    def resume(self, epoch: int, start: int) -> None:
        """Let the next iteration begin at batch `start` of `epoch`."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Batches of a whole epoch on this device: Lightning applies the limit to it itself."""
        return self.whole

    def __iter__(self) -> Iterator[Planned]:
        """This device's batches from `start` to the limit; the next epoch begins at its first."""
        start, self.start = self.start, 0
        yield from self.plan(self.epoch)[self.rank][start:]

    def plan(self, epoch: int) -> list[list[Planned]]:
        """Batches of every device for an epoch: the same on each of them."""
        devices: list[list[Planned]] = [[] for _ in range(self.world_size)]
        left = self.length * self.world_size
        for rows in self._steps(np.random.default_rng([self.seed, epoch])):
            cuts = range(0, len(rows), self.batch_size)
            step = [rows[i : i + self.batch_size] for i in cuts][:left]
            # Every device runs the same number of batches: the last ones may be empty.
            step += [()] * (-len(step) % self.world_size)
            left -= len(step)
            count = int(sum(self.targets[list(batch)].sum() for batch in step))
            for place, batch in enumerate(step):
                devices[place % self.world_size].append(Planned(batch, count))
            if not left:
                break
        return devices

    def _steps(self, draw: np.random.Generator) -> list[tuple[int, ...]]:
        """Rows of each optimiser step, shortest first; only the last step may have fewer rows."""
        size = self.batch_size * self.accumulate * self.world_size
        order = draw.permutation(len(self.lengths))
        steps = [order[i : i + size] for i in range(0, len(order), size)]
        return [tuple(map(int, s[np.argsort(self.lengths[s], kind="stable")])) for s in steps]


class EvalBatches(Sampler[Planned]):
    """Every row of a split once, in batches of like length, shared out to the devices.

    The order of the batches is a fixed shuffle, so that `trainer.limit_val_batches` looks at rows
    of every length. Devices run equally many batches: the last ones may be empty.

    Args:
        encoded: rows of the split.
        batch_size: rows a batch.
        world_size: number of devices.
        rank: this device.
    """

    def __init__(
        self, encoded: EncodedRows, *, batch_size: int, world_size: int = 1, rank: int = 0
    ) -> None:
        order = list(map(int, np.argsort(encoded.lengths, kind="stable")))
        batches = [tuple(order[i : i + batch_size]) for i in range(0, len(order), batch_size)]
        shuffle = np.random.default_rng(0).permutation(len(batches))
        batches = [batches[place] for place in shuffle]
        batches += [()] * (-len(batches) % world_size)
        self.batches = [Planned(rows, 0) for rows in batches[rank::world_size]]

    def __len__(self) -> int:
        """Batches on this device."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Planned]:
        """This device's batches."""
        yield from self.batches
