"""A few rows at a time: what is computed of a large tensor stays in a processor's cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch._subclasses.fake_tensor import FakeTensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

# Numbers at a time. A temporary tensor of many rows would not stay in a processor's cache, and its
# memory would come from the system anew each time; one of few rows would keep no GPU busy.
CPU, OTHERS = 2**20, 2**24
TRIED = 2  # pieces of a tensor without content: a plan tries batches of thousands


def pieces(states: Tensor) -> Iterator[slice]:
    """Slices of the rows of (N, D), of as many rows as are worked on at a time."""
    rows = max((CPU if states.is_cpu else OTHERS) // states.shape[1], 1)
    whole = len(states)
    end = min(whole, TRIED * rows) if isinstance(states, FakeTensor) else whole
    return (slice(first, min(first + rows, whole)) for first in range(0, end, rows))
