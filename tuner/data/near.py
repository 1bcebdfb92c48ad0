"""Near-duplicate families: MinHash signatures in bands, joined and verified."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasketch import MinHash
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tuner.data.example import Example

BANDS, DEPTH = 24, 5  # finds 99 % of the pairs at a similarity of 0.7, one in five at 0.4
SHINGLE = 3  # bytes: one changed word in ten leaves a similarity of about 0.75
SIMILAR = 0.7
BLOCK = 65_536  # rows or pairs handled at a time
NO_WORD = re.compile(r"[\W_]+")

_SKETCH = MinHash(BANDS * DEPTH, hashfunc=int)  # draws the permutations once
_MIX = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing, Knuth's 64-bit constant


def plain(text: str) -> str:
    """A text without case, punctuation and spacing; itself where nothing else is in it."""
    return NO_WORD.sub(" ", text.lower()).strip() or text


def shingles(text: str) -> npt.NDArray[np.uint64]:
    """The distinct 3-byte pieces of a text, as 32-bit numbers."""
    data = plain(text).encode("utf-8", "surrogatepass").ljust(SHINGLE)
    signs = np.frombuffer(data, dtype=np.uint8).astype(np.uint64)
    windows = np.zeros(len(signs) - SHINGLE + 1, dtype=np.uint64)
    for place in range(SHINGLE):
        windows = (windows << np.uint64(8)) | signs[place : place + len(windows)]
    return np.unique(windows)


def signature(example: Example) -> npt.NDArray[np.uint32]:
    """MinHash (Broder 1997) of what stands before the reply: (120,) uint32."""
    sketch = _SKETCH.copy()
    sketch.update_batch(shingles(" ".join(m.content for m in example.prompt)).tolist())
    return sketch.hashvalues


class Families:
    """Collects signatures on disk and joins the rows that are near duplicates of each other.

    Args:
        folder: where the files of signatures are written.
    """

    def __init__(self, folder: Path) -> None:
        self._values = (folder / "signatures.part").open("wb")
        self._bands = (folder / "bands.part").open("wb")
        self._rows = 0

    def add(self, signatures: npt.NDArray[np.uint32]) -> None:
        """Append the signatures of rows: (n, 120) uint32."""
        # One byte of each value is enough to estimate a similarity: 1 in 256 agrees by chance.
        self._values.write((signatures & 0xFF).astype(np.uint8).tobytes())
        mixed = np.zeros((len(signatures), BANDS), dtype=np.uint64)
        for value in np.moveaxis(signatures.reshape(len(signatures), BANDS, DEPTH), 2, 0):
            mixed = (mixed ^ value) * _MIX
        self._bands.write((mixed >> np.uint64(32)).astype(np.uint32).tobytes())
        self._rows += len(signatures)

    def join(self, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The family of each row, named by its first row: (N,) int64; deletes the files.

        Rows are near duplicates when the Jaccard similarity of their shingles is estimated at 0.7
        or more; a family is what chains of such pairs hold together.

        Args:
            ids: (N,) uint64 hash of each row, so that the order of the rows does not matter.
        """
        for file in (self._values, self._bands):
            file.close()
        families = np.arange(self._rows)
        for band in range(BANDS if self._rows else 0):
            keys = self._band(band)
            order = np.lexsort((ids, keys))
            starts = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
            first = np.repeat(order[starts], np.diff(starts, append=len(order)))
            # Of a bucket, each row is compared with its first row and with the one before it.
            others = np.concatenate([first, first[:1], order[:-1]])
            rows = np.concatenate([order, order])
            near = (keys[others] == keys[rows]) & (families[others] != families[rows])
            others, rows = others[near], rows[near]
            near = self._similar(others, rows)
            edges = families[others[near]], families[rows[near]]
            graph = coo_matrix((np.ones(len(edges[0]), np.int8), edges), (self._rows, self._rows))
            families = connected_components(graph, directed=False)[1][families]
        for file in (self._values, self._bands):
            Path(file.name).unlink()
        return first_rows(families)

    def _band(self, band: int) -> npt.NDArray[np.uint32]:
        file = np.memmap(self._bands.name, np.uint32, "r", shape=(self._rows, BANDS))
        return np.array(file[:, band])

    def _similar(
        self, one: npt.NDArray[np.int64], two: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        values = np.memmap(self._values.name, np.uint8, "r", shape=(self._rows, BANDS * DEPTH))
        needed = SIMILAR + (1 - SIMILAR) / 256
        similar = np.zeros(len(one), dtype=np.bool_)
        for start in range(0, len(one), BLOCK):
            block = slice(start, start + BLOCK)
            similar[block] = (values[one[block]] == values[two[block]]).mean(axis=1) >= needed
        return similar


def first_rows(labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Name each class of rows by its first row: (N,) int64 of any labels."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)
