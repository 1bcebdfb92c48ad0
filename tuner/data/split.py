"""Splits by group: rows that belong together never straddle train, validation and test."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tuner.data.near import first_rows
from tuner.errors import UserError

SPLITS = ("train", "val", "test")
Size = float | int
Draws = npt.NDArray[np.uint64]
LARGE = 100  # rows of a group that no split but train should hang on
_MIX = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing, Knuth's 64-bit constant


def split_rows(draws: Draws, val_size: Size, test_size: Size) -> npt.NDArray[np.int8]:
    """Send each group to one split by the number that it drew.

    A group draws a number from its name and the seed alone; the lowest go to test, the next to
    validation. With sizes as fractions the draw is compared with a fixed threshold, so the split
    of a row does not change when rows are re-ordered or others are added. With sizes as counts of
    rows, groups that still fit are taken in the order of their draws. A split that was asked for
    and got nothing takes the group with the next lowest draw. Groups of more than 100
    rows are learned from, the largest first, as long as the others hold half of all rows: one of
    them, such as a long chain of near duplicates, could make up most of a test split.

    Args:
        draws: (N,) uint64, the draw of each row's group: rows with one draw are one group.
        val_size: share of the groups (float below 1) or number of rows (int).
        test_size: likewise.

    Returns:
        (N,) int8, the place of each row's split in `SPLITS`.

    Raises:
        UserError: a size is out of range, or too few groups for the splits asked for.
    """
    for key, size in (("val_size", val_size), ("test_size", test_size)):
        if not size >= 0 or (isinstance(size, float) and size >= 1):  # NaN is neither
            raise UserError(
                f"data.{key}: {size} is not allowed; give 0 to 0.99, or a count of rows"
            )
    groups, home, counts = np.unique(draws, return_inverse=True, return_counts=True)
    asked = [size for size in (test_size, val_size) if size]
    if len(groups) <= len(asked):
        raise UserError(
            f"data: {len(draws)} rows in {len(groups)} group(s) cannot be split into "
            f"{1 + len(asked)} parts; add rows, set --data.val_size 0 --data.test_size 0, or, if "
            "near duplicates made them one group, --data.curation.near_duplicates keep"
        )
    largest = np.argsort(-counts, kind="stable")
    spared = np.cumsum(counts[largest]) <= len(draws) / 2  # the others hold half at least
    held_out = np.ones(len(groups), dtype=np.bool_)
    held_out[largest[spared & (counts[largest] > LARGE)]] = False
    split = np.zeros(len(groups), dtype=np.int8)
    reached = 0.0
    for name, size in (("test", test_size), ("val", val_size)):
        free = np.flatnonzero(held_out & (split == 0))
        if isinstance(size, int):
            taken = _filled(free, counts, size)
        else:
            reached += size
            drawn = groups[free] / 2.0**64
            # A count has taken the lowest draws, however many these were.
            counted = name == "val" and isinstance(test_size, int)
            taken = free[drawn >= 1 - size] if counted and test_size else free[drawn < reached]
        split[taken if len(taken) or not size else free[:1]] = SPLITS.index(name)
    if split.all():
        raise UserError(
            f"data.val_size, data.test_size: they take all {len(draws)} rows and leave none "
            "to train on; make them smaller"
        )
    return split[home]


def _filled(
    free: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.int64]:
    """The first of the groups that fit into `size` rows together; exactly, where they can."""
    taken: list[int] = []
    for group in free.tolist():
        if size == 0:
            break
        if counts[group] <= size:
            taken.append(group)
            size -= int(counts[group])
    return np.array(taken, dtype=np.int64)


def joined(draws: Draws, family: npt.NDArray[np.int64]) -> Draws:
    """One draw for all rows that a group or a family holds together, that of one of their groups.

    Which one is decided by a hash of the draws: the lowest draw itself would send whatever holds
    many groups together to the test split.

    Args:
        draws: (N,) uint64, the draw of each row's group.
        family: (N,) int64, the first row of each row's family.
    """
    count = len(draws)
    edges = np.tile(np.arange(count), 2), np.concatenate([first_rows(draws), family])
    graph = coo_matrix((np.ones(2 * count, np.int8), edges), (count, count))
    labels = connected_components(graph, directed=False)[1]
    order = np.lexsort((draws * _MIX, labels))  # the first row of each label speaks for it
    first = order[np.flatnonzero(np.diff(labels[order], prepend=-1))]
    return draws[first][labels]
