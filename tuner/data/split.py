"""Splits by group: rows that belong together never straddle train, validation and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tuner.data.example import Example, fraction
from tuner.errors import UserError

SPLITS = ("train", "val", "test")
Size = float | int


def split_groups(
    examples: Sequence[Example], val_size: Size, test_size: Size, seed: int
) -> dict[str, list[Example]]:
    """Send each group to one split by a hash of its name.

    A group draws a number in [0, 1) from its name and the seed alone; the lowest go to test, the
    next to validation. With sizes as fractions the draw is compared with a fixed threshold, so
    the split of a row does not change when rows are re-ordered or others are added. With sizes as
    counts of rows, groups are taken in the order of their draws until the count is reached. A
    split that was asked for and got nothing takes the group with the next lowest draw.

    Args:
        examples: rows to split.
        val_size: share of the groups (float below 1) or number of rows (int).
        test_size: likewise.
        seed: seed of the draw.

    Returns:
        The examples of `train`, `val` and `test`, each in their order.

    Raises:
        UserError: a size is out of range, or too few groups for the splits asked for.
    """
    for key, size in (("val_size", val_size), ("test_size", test_size)):
        if not size >= 0 or (isinstance(size, float) and size >= 1):  # NaN is neither
            raise UserError(
                f"data.{key}: {size} is not allowed; give 0 to 0.99, or a count of rows"
            )
    rows = Counter(example.group for example in examples)
    order = sorted(rows, key=lambda name: (fraction(seed, name), name))
    asked = [size for size in (test_size, val_size) if size]
    if len(order) <= len(asked):
        raise UserError(
            f"data: {len(examples)} rows in {len(order)} group(s) cannot be split into "
            f"{1 + len(asked)} parts; add rows, or set --data.val_size 0 --data.test_size 0"
        )
    home: dict[str, str] = {}
    reached = 0.0
    for name, size in (("test", test_size), ("val", val_size)):
        rest = order[len(home) :]
        if isinstance(size, int):
            taken = _until(rest, rows, size)
        else:
            reached += size
            taken = [group for group in rest if fraction(seed, group) < reached]
        home.update(dict.fromkeys(taken or rest[: bool(size)], name))
    if len(home) == len(order):
        raise UserError(
            f"data.val_size, data.test_size: they take all {len(examples)} rows and leave none "
            "to train on; make them smaller"
        )
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    for example in examples:
        splits[home.get(example.group, "train")].append(example)
    return splits


def _until(groups: Sequence[str], rows: Counter[str], count: int) -> list[str]:
    """The first groups that together hold at least `count` rows."""
    taken: list[str] = []
    held = 0
    for group in groups:
        if held >= count:
            break
        taken.append(group)
        held += rows[group]
    return taken
