"""What the C library is thought to keep."""

from __future__ import annotations

from tuner.heap import Heap, kept

MIB = 2**20
STAY = 20


def test_nothing_is_kept_of_blocks_that_stay() -> None:
    assert kept([(i, MIB // 16) for i in range(64)]) < MIB


def test_large_blocks_lie_outside_the_heap_and_are_given_back() -> None:
    heap = Heap(STAY)
    for _ in range(5):
        blocks = [heap.take(64 * MIB) for _ in range(3)]
        for block in blocks:
            heap.give_back(*block)
    assert heap.size == heap.used == 0


def raised() -> Heap:
    """A heap that takes blocks of up to 32 MiB, as after the first of them was freed."""
    heap = Heap(STAY)
    heap.give_back(*heap.take(32 * MIB - 64))
    return heap


def test_a_hole_serves_another_of_its_size_only_when_small_objects_have_left() -> None:
    heap = raised()
    first, _wall = heap.take(4 * MIB), heap.take(MIB)
    heap.give_back(*first)
    assert heap.take(4 * MIB)[0] != first[0]
    assert heap.take(3 * MIB)[0] == first[0]

    heap = raised()
    first, _wall = heap.take(4 * MIB), heap.take(MIB)
    heap.give_back(*first)
    for _ in range(STAY):
        heap.give_back(*heap.take(64 * MIB))  # outside, so that only time passes
    assert heap.take(4 * MIB)[0] == first[0]


def test_the_top_is_given_back() -> None:
    heap = raised()
    blocks = [heap.take(16 * MIB) for _ in range(8)]
    for _ in range(STAY):
        heap.give_back(*heap.take(64 * MIB))  # outside, so that only time passes
    assert heap.size > 128 * MIB
    for block in blocks[::-1]:
        heap.give_back(*block)
    assert heap.size < 2 * MIB


def test_gradients_live_into_the_next_step() -> None:
    step = [(1, -1), (2, 8 * MIB), (3, MIB), (3, -1)]  # 1 is what the step before left
    assert kept(step) < 16 * MIB
