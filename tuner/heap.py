"""Memory that glibc keeps: a model of its heap, run over what a training step takes and frees."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable

STEPS = 3  # later steps find nearly all holes that they need
KIB = 2**10
THRESHOLD_MAX = 32 * 2**20  # glibc raises its threshold for separate blocks no further
# PyTorch aligns to 64 bytes: glibc looks for so much more than the block, and gives it back as
# bits before and behind.
SLACK = 96
# Small objects settle in these bits, and the thread's cache keeps freed ones apart: until they
# leave, a freed block neither joins its neighbours nor serves another of the same size. How long
# they stay, as a share of a step's allocations, cannot be seen from tensors; it is fitted to the
# ten settings of docs/memory.md. A fixed number was too long for few layers and too short for many.
STAY = 0.15


class Heap:
    """The main heap of glibc: best fit, joining of free neighbours, trimming at the top.

    Args:
        stay: allocations for which a small object stays behind a block.

    Attributes:
        size: bytes that the process has of the system.
        used: bytes in blocks.
    """

    def __init__(self, stay: int) -> None:
        self._stay = stay
        self.used = 0
        self._end = self._top = self._apart = 0
        self._threshold = self._trim = 128 * KIB
        self._holes: list[tuple[int, int]] = []  # size and place, in order
        self._starts: dict[int, int] = {}  # size of the hole that starts there
        self._ends: dict[int, int] = {}  # start of the hole that ends there
        self._pins: deque[tuple[int, int]] = deque()  # when a bit gets free, and its place
        self._count = 0

    @property
    def size(self) -> int:
        """Bytes of the heap up to its end, and of the blocks outside it."""
        return self._end + self._apart

    def take(self, size: int) -> tuple[int | None, int]:
        """A new block: its place, null outside the heap, and its size."""
        self._count += 1
        while self._pins and self._pins[0][0] <= self._count:
            self._join(self._pins.popleft()[1], SLACK)
        size = -(-(size + 8) // 64) * 64
        self.used += size
        place = self._find(size + SLACK)
        if place is None:
            self._apart += size
        else:
            self._pins.append((self._count + self._stay, place + size))
        return place, size

    def give_back(self, place: int | None, size: int) -> None:
        """Free a block."""
        self.used -= size
        if place is not None:
            self._join(place, size)
            return
        self._apart -= size
        if self._threshold < size <= THRESHOLD_MAX:
            self._threshold, self._trim = size, 2 * size

    def _find(self, need: int) -> int | None:
        found = bisect_left(self._holes, (need, -1))
        if found < len(self._holes):
            size, place = self._holes[found]
            self._fill(place)
            if size > need:
                self._open(place + need, size - need)
            return place
        if self._end - self._top < need:
            if need >= self._threshold:
                return None
            self._end = self._top + need + 128 * KIB
        self._top += need
        return self._top - need

    def _join(self, place: int, size: int) -> None:
        if place in self._ends:
            before = self._ends[place]
            size += self._fill(before)
            place = before
        if place + size in self._starts:
            size += self._fill(place + size)
        if place + size != self._top:
            self._open(place, size)
            return
        self._top = place
        if size > 64 * KIB and self._end - self._top >= self._trim:
            self._end = self._top + 128 * KIB

    def _open(self, place: int, size: int) -> None:
        insort(self._holes, (size, place))
        self._starts[place] = size
        self._ends[place + size] = place

    def _fill(self, place: int) -> int:
        size = self._starts.pop(place)
        del self._ends[place + size]
        self._holes.pop(bisect_left(self._holes, (size, place)))
        return size


def kept(events: Iterable[tuple[int, int]]) -> int:
    """Bytes that the heap's peak lies above that of the blocks in use.

    Args:
        events: a step's allocations and frees in order: a block's number, and its size or -1 when
            it is freed. Blocks of unknown number that are freed are left from the step before.
    """
    events = list(events)
    heap = Heap(int(STAY * sum(size >= 0 for _, size in events)))
    most = used = 0
    left: list[tuple[int | None, int]] = []
    for _ in range(STEPS):
        blocks: dict[int, tuple[int | None, int]] = {}
        for number, size in events:
            if size >= 0:
                blocks[number] = heap.take(size)
                most, used = max(most, heap.size), max(used, heap.used)
            elif number in blocks:
                heap.give_back(*blocks.pop(number))
            elif left:
                heap.give_back(*left.pop())
        left = list(blocks.values())
    return most - used
