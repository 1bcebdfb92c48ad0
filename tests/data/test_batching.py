"""Batches: each row once an epoch, token counts exact over the whole optimiser step."""

import random
from collections import Counter
from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.data.batching import EvalBatches, Joined, Planned, TrainBatches
from tuner.data.encode import Encoded


class Rows(list[Encoded]):
    """Rows in memory, with the counts that planning asks for."""

    def __init__(self, rows: Iterable[Encoded]) -> None:
        super().__init__(rows)
        self.lengths = np.array([len(row.input_ids) for row in self], dtype=np.int32)
        self.targets = np.array([row.targets for row in self], dtype=np.int32)


def rows(count: int, seed: int = 0, longest: int = 40) -> Rows:
    """Rows of random length, each with a random part of it labelled."""
    draw = random.Random(seed)
    made: list[Encoded] = []
    for place in range(count):
        length = draw.randint(2, longest)
        ids = np.array([draw.randint(0, 99) for _ in range(length)], dtype=np.int32)
        labels = ids.copy()
        labels[: draw.randint(0, length - 1)] = -100
        made.append(Encoded(ids, labels, place))
    return Rows(made)


def devices(encoded: Rows, world_size: int, epoch: int = 0, **more: Any) -> list[Any]:
    """What each device's own sampler gives for an epoch."""
    found: list[Any] = []
    for rank in range(world_size):
        sampler = TrainBatches(encoded, world_size=world_size, rank=rank, **more)
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


def count_targets(encoded: Rows, batches: list[Planned]) -> int:
    """Predicted tokens that carry loss: all with a label but the first of a row."""
    made = [Joined(encoded)[batch] for batch in batches]
    rows = [row for batch in made for row in batch["labels"].split(batch["lengths"])]
    return sum(int((row[1:] >= 0).sum()) for row in rows)


def check_epoch(encoded: Rows, world: int, accumulate: int, found: list[Any]) -> None:
    assert len({len(batches) for batches in found}) == 1
    for start in range(0, len(found[0]), accumulate):
        step = [batch for batches in found for batch in batches[start : start + accumulate]]
        expected = count_targets(encoded, step)
        assert {batch.step_targets for batch in step} == {expected}


@settings(max_examples=80, deadline=None, database=None, derandomize=True)
@given(
    count=st.integers(1, 70),
    batch_size=st.integers(1, 9),
    accumulate=st.integers(1, 4),
    world=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_each_row_once_and_step_targets_exact(
    count: int, batch_size: int, accumulate: int, world: int, seed: int
) -> None:
    encoded = rows(count, seed)
    found = devices(encoded, world, batch_size=batch_size, accumulate=accumulate, seed=seed)
    places = [place for batches in found for batch in batches for place in batch.rows]
    assert Counter(places) == Counter(range(count))
    assert len(found[0]) == -(-count // (batch_size * world))
    sizes = [len(batch.rows) for turn in zip(*found, strict=True) for batch in turn]
    assert sizes == sorted(sizes, reverse=True)  # full ones, one short one, empty ones
    assert set(sizes[: count // batch_size]) <= {batch_size}
    check_epoch(encoded, world, accumulate, found)


@pytest.mark.parametrize(
    ("world", "accumulate"), list(product((1, 2, 3), (1, 2, 3, 4))), ids=lambda n: str(n)
)
@pytest.mark.parametrize("count", [1, 7, 8, 9, 1030])
def test_awkward_counts_over_several_pools(world: int, accumulate: int, count: int) -> None:
    encoded = rows(count, longest=6)
    found = devices(encoded, world, batch_size=8, accumulate=accumulate)
    places = [place for batches in found for batch in batches for place in batch.rows]
    assert sorted(places) == list(range(count))
    check_epoch(encoded, world, accumulate, found)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    encoded = rows(100)

    def order(seed: int, epoch: int) -> list[Planned]:
        return devices(encoded, 1, epoch, batch_size=4, seed=seed)[0]

    assert order(0, 3) == order(0, 3)
    different = [order(0, 0), order(0, 1), order(1, 0), order(1, 1)]
    assert all(a != b for n, a in enumerate(different) for b in different[:n])


def test_batches_come_in_no_order_of_length() -> None:
    encoded = rows(2000)
    means = [
        np.mean([len(encoded[place].input_ids) for place in batch.rows])
        for batch in devices(encoded, 1, batch_size=8)[0]
    ]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2


@pytest.mark.parametrize("world", [1, 2])
def test_resume_gives_exactly_the_rest_and_then_whole_epochs(world: int) -> None:
    encoded = rows(50)
    options: dict[str, Any] = {"batch_size": 4, "accumulate": 2, "seed": 1}
    whole = devices(encoded, world, 2, **options)
    after = devices(encoded, world, 3, **options)
    for rank, stop in product(range(world), range(len(whole[0]))):
        sampler = TrainBatches(encoded, world_size=world, rank=rank, **options)
        sampler.resume(2, stop)
        sampler.set_epoch(2)  # Lightning does so before every epoch
        assert list(sampler) == whole[rank][stop:]
        sampler.set_epoch(3)
        assert list(sampler) == after[rank]


@pytest.mark.parametrize(("count", "accumulate"), [(50, 1), (50, 2), (49, 3), (64, 2), (7, 2)])
def test_an_epoch_goes_on_with_other_devices_where_the_batches_of_all_are_alike(
    count: int, accumulate: int
) -> None:
    """Whatever the number of devices, `stop` batches on each are the same rows in all."""
    encoded = rows(count)
    worlds = {
        world: devices(encoded, world, 3, batch_size=8 // world, accumulate=accumulate)
        for world in (1, 2, 4)
    }
    for (before, first), (after, second) in product(worlds.items(), repeat=2):
        for stop in range(0, len(first[0]) + 1, accumulate):
            places = [
                place for batches in first for batch in batches[:stop] for place in batch.rows
            ]
            for rank in range(after):
                sampler = TrainBatches(
                    encoded,
                    batch_size=8 // after,
                    accumulate=accumulate,
                    world_size=after,
                    rank=rank,
                )
                sampler.resume(3, stop)
                rest = list(sampler)
                assert rest == second[rank][stop:]
                places += [place for batch in rest for place in batch.rows]
            assert sorted(places) == list(range(count)), f"{before} to {after} devices at {stop}"


@pytest.mark.parametrize(
    ("limit", "batches"), [(1.0, 13), (0.5, 6), (0.05, 0), (5, 5), (1, 1), (99, 13), (0, 0)]
)
def test_limit_as_share_and_as_count(limit: float, batches: int) -> None:
    encoded = rows(100)
    whole = devices(encoded, 1, batch_size=8, accumulate=4)[0]
    found = devices(encoded, 1, batch_size=8, accumulate=4, limit=limit)
    assert [batch.rows for batch in found[0]] == [batch.rows for batch in whole[:batches]]
    check_epoch(encoded, 1, 4, found)  # the last step holds fewer batches, and knows it


@pytest.mark.parametrize("limit", [3, 0.5])
def test_limit_on_several_devices(limit: float) -> None:
    encoded = rows(100)
    found = devices(encoded, 3, batch_size=4, accumulate=2, limit=limit)
    assert [len(batches) for batches in found] == [3 if limit == 3 else 4] * 3
    check_epoch(encoded, 3, 2, found)
    places = [place for batches in found for batch in batches for place in batch.rows]
    assert len(places) == len(set(places))


def test_length_is_that_of_a_whole_epoch_for_lightning_limits_it_itself() -> None:
    assert len(TrainBatches(rows(100), batch_size=8, limit=0.5)) == 13


@pytest.mark.parametrize("count", [0, 1, 5, 24, 25, 100])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_eval_covers_each_row_once_with_empty_fillers_at_the_end(count: int, world: int) -> None:
    encoded = rows(count)
    samplers = [
        EvalBatches(encoded, batch_size=4, world_size=world, rank=rank) for rank in range(world)
    ]
    found = [list(sampler) for sampler in samplers]
    assert [len(batches) for batches in found] == [len(sampler) for sampler in samplers]
    assert [list(sampler) for sampler in samplers] == found  # the same each time
    assert len({len(batches) for batches in found}) == 1
    places = [place for batches in found for batch in batches for place in batch.rows]
    assert sorted(places) == list(range(count))
    assert all(batch.rows for batches in found for batch in batches[:-1])


def test_a_limited_evaluation_sees_rows_of_every_length() -> None:
    encoded = rows(400, longest=400)
    lengths = np.array([len(row.input_ids) for row in encoded])
    first = [
        place for batch in list(EvalBatches(encoded, batch_size=4))[:20] for place in batch.rows
    ]
    assert abs(lengths[first].mean() - lengths.mean()) < 0.25 * lengths.mean()


def test_rows_stand_end_to_end() -> None:
    encoded = rows(20)
    batch = Joined(encoded)[Planned(tuple(range(20)), 123)]
    assert batch["rows"] == list(range(20))
    assert batch["step_targets"] == 123
    assert batch["tokens"] == sum(batch["lengths"]) == len(batch["input_ids"])
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64
    found = (batch[key].split(batch["lengths"]) for key in ("input_ids", "labels"))
    for row, ids, labels in zip(encoded, *found, strict=True):
        assert ids.tolist() == row.input_ids.tolist()
        assert labels.tolist() == row.labels.tolist()


def test_an_empty_batch_can_be_run_and_counts_nothing() -> None:
    batch = Joined(rows(3))[Planned((), 55)]
    assert batch["input_ids"].shape == batch["labels"].shape
    assert batch["input_ids"].numel() > 0
    assert (batch["labels"] == -100).all()
    assert (batch["tokens"], batch["rows"], batch["step_targets"]) == (0, [], 55)


@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_steps_are_of_rows_in_random_order(batch_size: int) -> None:
    """The lengths within a step differ as much as those of the whole set do."""
    encoded = rows(4096, longest=400)
    lengths = np.array([len(row.input_ids) for row in encoded])
    steps = devices(encoded, 1, batch_size=batch_size, accumulate=64 // batch_size)[0]
    whole = [
        lengths[[r for b in steps[i : i + 64 // batch_size] for r in b.rows]]
        for i in range(0, len(steps), 64 // batch_size)
    ]
    assert np.mean([step.var(ddof=1) for step in whole]) == pytest.approx(lengths.var(), rel=0.1)
    for batch in steps:  # shortest first, so that what has to be padded is padded little
        assert (np.diff(lengths[list(batch.rows)]) >= 0).all()
