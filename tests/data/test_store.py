"""What goes into the store comes out of it, in any order and from any process."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tuner.data.encode import Encoded
from tuner.data.example import Example, Message
from tuner.data.store import ROWS, SCHEMA, EncodedRows, Examples, Store, as_batch, loss_ranges

TEXTS = ["Hi", "line\nbreak", "\u00fc \U0001f600", "", "\x00", "e\u0301", "x" * 10_000]
LABELS = [[-100, 1, 2, -100, 3], [-100] * 5, [0, 1, 2, 3, 4], [-100, -100, -100, -100, 4]]


def row(number: int) -> tuple[Example, Encoded]:
    text = TEXTS[number % len(TEXTS)]
    turns = (Message("system", text), Message("user", f"{number}"), Message("assistant", text))
    meta = {"where": f"f:{number}", "n": number, "none": None, "list": [1, "a"], "yes": True}
    example = Example(turns, group=f"g{number}", category=text, meta=meta)
    labels = np.array(LABELS[number % len(LABELS)], dtype=np.int32)
    ids = np.where(labels == -100, 9, labels).astype(np.int32)
    return example, Encoded(ids, labels, row=number)


@pytest.fixture
def rows() -> list[tuple[Example, Encoded]]:
    return [row(number) for number in range(50)]


@pytest.fixture
def store(rows: Any, tmp_path: Path) -> Store:
    with pa.OSFile(str(tmp_path / ROWS), "wb") as file, pa.ipc.new_file(file, SCHEMA) as out:
        for start, stop in ((0, 1), (1, 30), (30, 50)):
            out.write_batch(as_batch(rows[start:stop]))
    return Store(tmp_path)


def same(found: Encoded, expected: Encoded) -> bool:
    return (
        found.row == expected.row
        and found.input_ids.tolist() == expected.input_ids.tolist()
        and found.labels.tolist() == expected.labels.tolist()
        and found.input_ids.dtype == found.labels.dtype == np.int32
    )


def test_rows_come_back_whole(store: Store, rows: Any) -> None:
    assert len(store) == 50
    for number in (49, 0, 1, 29, 30, 7):
        assert store.example(number) == rows[number][0]
        assert store.messages(number) == rows[number][0].messages
        assert same(store.encoded(number, number), rows[number][1])


def test_a_worker_maps_the_file_for_itself(store: Store, rows: Any) -> None:
    copy = pickle.loads(pickle.dumps(store))
    assert len(pickle.dumps(store)) < 500
    assert copy.example(33) == rows[33][0]


def test_splits_are_sequences(store: Store, rows: Any) -> None:
    which = np.array([40, 3, 17], dtype=np.int64)
    examples = Examples(store, which)
    assert [e.group for e in examples] == ["g40", "g3", "g17"]
    assert (examples[-1].group, [e.group for e in examples[:2]]) == ("g17", ["g40", "g3"])
    encoded = EncodedRows(store, which, np.array([5, 5, 5]), np.array([1, 2, 3]))
    assert [item.row for item in encoded] == [0, 1, 2], "rows are counted within their split"
    assert encoded[-1].row == 2
    assert [item.row for item in encoded[1:]] == [1, 2]
    assert encoded[1].input_ids.tolist() == rows[3][1].input_ids.tolist()
    for broken in (examples, encoded):
        with pytest.raises(IndexError):
            broken[3]
    assert not Examples(store, which[:0])


def test_an_empty_store_is_one(tmp_path: Path) -> None:
    with pa.OSFile(str(tmp_path / ROWS), "wb") as file, pa.ipc.new_file(file, SCHEMA):
        pass
    assert len(Store(tmp_path)) == 0


def test_changing_a_row_does_not_change_the_file(store: Store) -> None:
    first = store.encoded(0, 0)
    first.input_ids[:] = 77
    first.labels[:] = 77
    assert 77 not in store.encoded(0, 0).input_ids


@pytest.mark.parametrize("labels", LABELS)
def test_ranges_of_loss(labels: list[int]) -> None:
    ranges = loss_ranges(np.array(labels, dtype=np.int32)).reshape(-1, 2).tolist()
    inside = {place for first, last in ranges for place in range(first, last)}
    assert inside == {place for place, label in enumerate(labels) if label != -100}
