"""Knowing that memory has run out, and going on with less at a time."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn

T = TypeVar("T")

# What the allocators say: CUDA's has an error of its own, the CPU's is a RuntimeError.
SIGNS = ("not enough memory", "can't allocate memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator found no room."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        sign in str(error) for sign in SIGNS
    )


def with_fewer_rows(work: Callable[[int], T], rows: int) -> T:
    """Do something with so many rows together, or half as many each time that memory runs out.

    Args:
        work: is given the number of rows, and does all of it each time.
        rows: to begin with.

    Raises:
        RuntimeError, MemoryError: memory ran out with a single row.
    """
    while True:
        try:
            return work(rows)
        except (RuntimeError, MemoryError) as error:
            if rows == 1 or not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold tensors
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        rank_zero_warn(f"out of memory with {rows} rows together; trying {rows // 2}")
        rows //= 2
