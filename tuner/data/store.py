"""Prepared rows on disk: a memory-mapped Arrow file, read row by row without loading it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tuner.data.encode import IGNORED, Encoded
from tuner.data.example import Example, Message

ROWS = "rows.arrow"
SCHEMA = pa.schema(
    [
        ("messages", pa.string()),  # JSON: [[role, content], ...]
        ("group", pa.string()),
        ("category", pa.string()),
        ("meta", pa.string()),  # JSON
        ("input_ids", pa.list_(pa.int32())),
        ("loss", pa.list_(pa.int32())),  # half-open token ranges that carry loss, end to end
    ]
)


def as_batch(rows: Sequence[tuple[Example, Encoded]]) -> Any:
    """Rows as a record batch of the store."""
    return pa.record_batch(
        {
            "messages": [_messages_json(example) for example, _ in rows],
            "group": [example.group for example, _ in rows],
            "category": [example.category for example, _ in rows],
            "meta": [json.dumps(dict(e.meta), ensure_ascii=False) for e, _ in rows],
            "input_ids": [encoded.input_ids for _, encoded in rows],
            "loss": [loss_ranges(encoded.labels) for _, encoded in rows],
        },
        schema=SCHEMA,
    )


def _messages_json(example: Example) -> str:
    return json.dumps([[m.role, m.content] for m in example.messages], ensure_ascii=False)


def _messages(text: str) -> tuple[Message, ...]:
    turns: list[list[Any]] = json.loads(text)
    return tuple(Message(role, content) for role, content in turns)


def loss_ranges(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Half-open ranges of tokens with a label, end to end: (2 n,) int32."""
    edges = np.diff(np.concatenate([[0], (labels != IGNORED).astype(np.int8), [0]]))
    return np.flatnonzero(edges).astype(np.int32)


class Store:
    """Random access to the rows of an Arrow file; memory is used only while a row is.

    Args:
        folder: where `rows.arrow` lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        reader = pa.ipc.open_file(pa.memory_map(str(folder / ROWS)))
        self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])

    def __len__(self) -> int:
        """Number of rows, dropped ones included."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        """A worker process maps the file for itself."""
        return Store, (self.folder,)

    def _locate(self, row: int) -> tuple[Any, int]:
        place = int(np.searchsorted(self._ends, row, side="right"))
        batch = self._batches[place]
        return batch, row - int(self._ends[place]) + batch.num_rows

    def messages(self, row: int) -> tuple[Message, ...]:
        """The turns of a row."""
        batch, place = self._locate(row)
        return _messages(batch.column("messages")[place].as_py())

    def stream(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[Message, ...]]:
        """The turns of many rows, read block by block: the file's pages do not stay in memory."""
        wanted = pa.ipc.IpcReadOptions(included_fields=[SCHEMA.get_field_index("messages")])
        with pa.OSFile(str(self.folder / ROWS)) as file:
            reader = pa.ipc.open_file(file, options=wanted)
            blocks = np.searchsorted(self._ends, rows, side="right")
            for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(blocks)) + 1):
                if len(run):
                    batch = reader.get_batch(int(blocks[run[0]]))
                    start = int(self._ends[blocks[run[0]]]) - batch.num_rows
                    for text in batch.column(0).take(pa.array(rows[run] - start)).to_pylist():
                        yield _messages(text)

    def example(self, row: int) -> Example:
        """The conversation of a row."""
        batch, place = self._locate(row)
        return Example(
            messages=self.messages(row),
            group=batch.column("group")[place].as_py(),
            category=batch.column("category")[place].as_py(),
            meta=json.loads(batch.column("meta")[place].as_py()),
        )

    def encoded(self, row: int, place_in_split: int) -> Encoded:
        """The tokens and labels of a row."""
        batch, place = self._locate(row)
        ids = batch.column("input_ids")[place].values.to_numpy()
        labels = np.full_like(ids, IGNORED)
        ranges = batch.column("loss")[place].values.to_numpy()
        for first, last in ranges.reshape(-1, 2):
            labels[first:last] = ids[first:last]
        return Encoded(ids.copy(), labels, row=place_in_split)


class Examples(Sequence[Example]):
    """The conversations of a split.

    Args:
        store: where the rows are.
        rows: (N,) int64, which rows.
    """

    def __init__(self, store: Store, rows: npt.NDArray[np.int64]) -> None:
        self.store = store
        self.rows = rows

    def __len__(self) -> int:
        """Number of conversations."""
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        """One conversation, or a list of them."""
        if isinstance(place, slice):
            return [self.store.example(int(row)) for row in self.rows[place]]
        return self.store.example(int(self.rows[place]))

    def __iter__(self) -> Iterator[Example]:
        """The conversations in order."""
        return (self.store.example(int(row)) for row in self.rows)


class EncodedRows(Sequence[Encoded]):
    """The tokens and labels of a split, and the counts that planning asks of all rows.

    Args:
        store: where the rows are.
        rows: (N,) int64, which rows.
        lengths: (N,) int32, tokens of each row.
        targets: (N,) int32, tokens of each row that carry loss.
    """

    def __init__(
        self,
        store: Store,
        rows: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int32],
        targets: npt.NDArray[np.int32],
    ) -> None:
        self.store = store
        self.rows = rows
        self.lengths = lengths
        self.targets = targets

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Encoded: ...
    @overload
    def __getitem__(self, place: slice) -> list[Encoded]: ...
    def __getitem__(self, place: int | slice) -> Encoded | list[Encoded]:
        """One row, or a list of them."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place = range(len(self))[place]  # negative places, and IndexError behind the end
        return self.store.encoded(int(self.rows[place]), place)
