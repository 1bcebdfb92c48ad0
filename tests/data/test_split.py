"""Splits: decided by group and seed alone, and no group on two sides."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.data.example import Example, Message, digest, fraction
from tuner.data.split import SPLITS, split_rows
from tuner.errors import UserError


def row(name: object, group: object) -> Example:
    turns = (Message("user", f"q{name}"), Message("assistant", f"a{name}"))
    return Example(turns, group=f"g{group}")


def families(count: int, size: int = 5) -> list[Example]:
    return [row(f"{g}.{n}", g) for g in range(count) for n in range(size)]


def split_groups(
    rows: list[Example], val_size: float, test_size: float, seed: int
) -> dict[str, list[Example]]:
    """Split examples by the draws of their groups, as curation does."""
    draws = [int(digest([seed, example.group]), 16) for example in rows]
    places = split_rows(np.array(draws, dtype=np.uint64), val_size, test_size)
    return {
        name: [example for example, at in zip(rows, places, strict=True) if SPLITS[at] == name]
        for name in SPLITS
    }


def homes(splits: dict[str, list[Example]]) -> dict[str, str]:
    return {example.id: name for name, rows in splits.items() for example in rows}


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(
    groups=st.lists(st.integers(0, 40), min_size=8, max_size=120),
    val=st.one_of(st.floats(0, 0.4), st.integers(0, 10)),
    test=st.one_of(st.floats(0, 0.4), st.integers(0, 10)),
    seed=st.integers(0, 9),
)
def test_any_split_is_whole_and_keeps_groups_together(
    groups: list[int], val: float, test: float, seed: int
) -> None:
    rows = [row(place, group) for place, group in enumerate(groups)]
    try:
        splits = split_groups(rows, val, test, seed)
    except UserError:
        return  # too few groups for these sizes: the tests below
    assert Counter(e.id for part in splits.values() for e in part) == Counter(e.id for e in rows)
    names = [{e.group for e in splits[name]} for name in SPLITS]
    assert len(set.union(*names)) == sum(map(len, names))
    assert splits["train"]
    assert bool(splits["val"]) == (val > 0)
    assert bool(splits["test"]) == (test > 0)


@pytest.mark.parametrize("sizes", [(0.2, 0.3), (40, 60), (0.1, 30)])
def test_order_of_the_rows_does_not_matter(sizes: Any) -> None:
    rows = families(60)
    shuffled = random.Random(0).sample(rows, len(rows))
    first, again = split_groups(rows, *sizes, seed=3), split_groups(shuffled, *sizes, seed=3)
    assert homes(first) == homes(again)
    assert homes(first) != homes(split_groups(rows, *sizes, seed=4))
    places = {example.id: place for place, example in enumerate(rows)}
    for part in first.values():
        assert [places[e.id] for e in part] == sorted(places[e.id] for e in part)


def test_added_rows_move_none_of_the_old_with_sizes_as_shares() -> None:
    old = families(200)
    before = homes(split_groups(old, 0.1, 0.2, seed=0))
    after = homes(split_groups(families(900), 0.1, 0.2, seed=0))
    assert {name: after[name] for name in before} == before


def test_shares_and_counts_are_kept() -> None:
    rows = families(2000)
    share = {name: len(part) / len(rows) for name, part in split_groups(rows, 0.1, 0.2, 0).items()}
    assert share == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.03)
    counts = {name: len(part) for name, part in split_groups(rows, 23, 101, 0).items()}
    assert counts == {"val": 20, "test": 100, "train": 10_000 - 120}  # whole groups of five


def test_counts_are_exact_where_the_groups_allow_it() -> None:
    rows = families(300, 7) + [row(n, f"alone {n}") for n in range(60)]
    for seed in range(5):
        splits = split_groups(rows, 100, 500, seed)
        assert (len(splits["val"]), len(splits["test"])) == (100, 500)


def test_a_share_beside_a_count_is_a_share_of_all() -> None:
    splits = split_groups([row(n, n) for n in range(1000)], 0.1, 500, 0)
    assert len(splits["test"]) == 500
    assert 60 < len(splits["val"]) < 140


def test_a_large_group_is_learned_from_where_others_can_be_held_out() -> None:
    rows = families(300) + [row(n, "chain") for n in range(900)]
    for seed in range(8):
        splits = split_groups(rows, 0.2, 0.2, seed)
        assert {e.group for e in splits["train"]} >= {"gchain"}
        assert 150 < len(splits["test"]) < 450
    few = [row(f"{g}.{n}", g) for g in range(4) for n in range(200)]
    assert len(split_groups(few, 0.2, 0.2, 0)["test"]) == 200  # nothing smaller is at hand


def test_a_split_asked_for_gets_at_least_one_group() -> None:
    splits = split_groups(families(3), 1e-9, 1e-9, seed=0)
    assert {name: len(part) for name, part in splits.items()} == dict.fromkeys(SPLITS, 5)


def test_no_sizes_leave_all_rows_to_train() -> None:
    assert len(split_groups(families(1), 0, 0.0, seed=0)["train"]) == 5


@pytest.mark.parametrize(("groups", "sizes"), [(1, (0.1, 0)), (2, (0.1, 0.1)), (2, (1, 1))])
def test_too_few_groups(groups: int, sizes: Any) -> None:
    with pytest.raises(UserError, match=rf"{groups} group\(s\) cannot be split.*val_size 0"):
        split_groups(families(groups), *sizes, seed=0)


@pytest.mark.parametrize("sizes", [(0.6, 0.6), (0, 10_000), (50, 50), (0.99, 0.99)])
def test_sizes_that_leave_nothing_to_train_on(sizes: Any) -> None:
    with pytest.raises(UserError, match="all 50 rows and leave none to train on"):
        split_groups(families(10), *sizes, seed=0)


@pytest.mark.parametrize("size", [-1, -0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_sizes_out_of_range(size: float) -> None:
    with pytest.raises(UserError, match=r"data\.val_size: .* is not allowed"):
        split_groups(families(10), size, 0.1, seed=0)
    with pytest.raises(UserError, match=r"data\.test_size: .* is not allowed"):
        split_groups(families(10), 0.1, size, seed=0)


def test_the_draw_is_uniform_and_the_same_on_every_machine() -> None:
    draws = [fraction(1, f"name {n}") for n in range(5000)]
    assert sum(draws) / len(draws) == pytest.approx(0.5, abs=0.02)
    assert Counter(int(draw * 10) for draw in draws).most_common()[-1][1] > 400
    # printf '[1,"name 0"]' | sha256sum: its first 16 digits
    assert draws[0] == 0xC9319BEFFCD85992 / 2**64
