"""Near-duplicate families: MinHash signatures in bands, joined and verified."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasketch import MinHash
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tuner.data.example import Message

BANDS, DEPTH = 30, 4  # finds 99 % of the pairs at a similarity of 0.6, half of those at 0.4
SIGNATURE = BANDS * DEPTH
SHINGLE = 3  # bytes: one changed word in ten leaves a similarity of about 0.8
SIMILAR, SHORT_SIMILAR = 0.7, 0.6  # of long and of short texts, where a typo weighs more
TYPO = 4  # pieces that two swapped letters change
BLOCK = 65_536  # rows or pairs handled at a time
NO_WORD = re.compile(r"[\W_]+")
SHORTEST = 12  # pieces; of shorter texts ("What is AI?") the common words are most
POLITE = re.compile(
    r"\b(?:hi|hello|hey|dear|greetings|good (?:morning|afternoon|evening|day)|please|pls|kindly|"
    r"thanks|thank you|thx|cheers|regards|(?:can|could|would) you(?: tell me)?)\b"
    r"(?: (?:there|all|everyone|team|sir|madam|a lot|very much|so much|in advance)\b)*"
)

_SKETCH = MinHash(SIGNATURE, hashfunc=int)  # draws the permutations once
_MIX = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing, Knuth's 64-bit constant


def plain(text: str) -> str:
    """A text without case, punctuation and spacing; itself where nothing else is in it."""
    return NO_WORD.sub(" ", text.lower()).strip() or text


def shingles(text: str) -> npt.NDArray[np.uint64]:
    """The distinct 3-byte pieces of the words of a text, as numbers, in order.

    A word has a blank on either side, and no piece reaches over two words, so their order does not
    matter. Greetings, "please" and "thanks" are left out.
    """
    whole = plain(text)
    words = POLITE.sub(" ", whole).split() or whole.split() or ["\0"]
    data = f" {'  '.join(words)} ".encode("utf-8", "surrogatepass")
    signs = np.frombuffer(data, dtype=np.uint8).astype(np.uint64)
    windows = np.zeros(len(signs) - SHINGLE + 1, dtype=np.uint64)
    for place in range(SHINGLE):
        windows = (windows << np.uint64(8)) | signs[place : place + len(windows)]
    blank = signs == ord(" ")
    between = (blank[:-2] & blank[1:-1]) | (blank[1:-1] & blank[2:])
    return np.unique(windows[~between])


def signature(pieces: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """MinHash (Broder 1997) of the pieces of a text: (SIGNATURE,) uint32."""
    sketch = _SKETCH.copy()
    sketch.update_batch(pieces.tolist())
    return sketch.hashvalues


def question(turns: Sequence[Message]) -> str:
    """All that stands before the reply, as one text."""
    return "\n".join(message.content for message in turns[:-1])


class Families:
    """Collects signatures on disk and joins the rows that are near duplicates of each other.

    Args:
        folder: where the files of signatures are written.
    """

    def __init__(self, folder: Path) -> None:
        self._values = (folder / "signatures.part").open("wb")
        self._bands = (folder / "bands.part").open("wb")
        self._sizes: list[npt.NDArray[np.int32]] = []
        self._rows = 0

    def add(self, signatures: npt.NDArray[np.uint32], sizes: npt.NDArray[np.int32]) -> None:
        """Append the signatures of rows, (n, 120) uint32, and their numbers of pieces, (n,)."""
        self._sizes.append(sizes)
        # One byte of each value is enough to estimate a similarity.
        self._values.write((signatures & 0xFF).astype(np.uint8).tobytes())
        mixed = np.zeros((len(signatures), BANDS), dtype=np.uint64)
        for value in np.moveaxis(signatures.reshape(len(signatures), BANDS, DEPTH), 2, 0):
            mixed = (mixed ^ value) * _MIX
        self._bands.write((mixed >> np.uint64(32)).astype(np.uint32).tobytes())
        self._rows += len(signatures)

    def join(self, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The family of each row, named by its first row: (N,) int64; deletes the files.

        Rows are near duplicates when the Jaccard similarity of their pieces is estimated at 0.7 or
        more, or at what one typo leaves of a short text, 0.6 at least; a family is what chains of
        such pairs hold together.

        Args:
            ids: (N,) uint64 hash of each row, so that the order of the rows does not matter.
        """
        for file in (self._values, self._bands):
            file.close()
        families = np.arange(self._rows)
        sizes = np.concatenate([np.zeros(0, np.int32), *self._sizes])
        typo = np.clip((sizes - TYPO) / (sizes + TYPO), SHORT_SIMILAR, SIMILAR)
        needed = np.where(sizes < SHORTEST, SIMILAR, typo)
        for band in range(BANDS if self._rows else 0):
            # Rows of a bucket that share the next bands' buckets too come to stand side by side.
            after, keys = self._band((band + 1) % BANDS), self._band(band)
            order = np.lexsort((ids, self._band((band + 2) % BANDS), after, keys))
            starts = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
            first = np.repeat(order[starts], np.diff(starts, append=len(order)))
            # Of a bucket, each row is compared with its first row and with the two before it.
            before = [np.concatenate([order[:back], order[:-back]]) for back in (1, 2)]
            others = np.concatenate([first, *before])
            rows = np.concatenate([order] * 3)
            near = (keys[others] == keys[rows]) & (families[others] != families[rows])
            others, rows = others[near], rows[near]
            near = self._similar(others, rows, np.maximum(needed[others], needed[rows]))
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
        self,
        one: npt.NDArray[np.int64],
        two: npt.NDArray[np.int64],
        similarity: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.bool_]:
        values = np.memmap(self._values.name, np.uint8, "r", shape=(self._rows, SIGNATURE))
        needed = similarity + (1 - similarity) / 256  # one byte in 256 agrees by chance
        similar = np.zeros(len(one), dtype=np.bool_)
        for start in range(0, len(one), BLOCK):
            block = slice(start, start + BLOCK)
            agreeing = (values[one[block]] == values[two[block]]).mean(axis=1)
            similar[block] = agreeing >= needed[block]
        return similar


def first_rows(labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Name each class of rows by its first row: (N,) int64 of any labels."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)
