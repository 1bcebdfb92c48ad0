"""Families too large to be duplicates: one text around other contents, such as an instruction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tuner.data.near import Families, first_rows, question, shingles, signature
from tuner.data.store import Store

SAMPLE = 1000  # rows of a family that show what its rows have in common
CONTENT = 10  # pieces that have to differ from that to be a content of its own
BLOCK = 4096

Labels = npt.NDArray[np.int64]


def part_templates(
    family: Labels, store: Store, ids: npt.NDArray[np.uint64], folder: Path
) -> tuple[Labels, npt.NDArray[np.bool_]]:
    """Part large families by what their rows do not have in common.

    A family of more than a tenth of the rows is most likely a template with other contents in it,
    and kept together it would be most of a split. Its rows are compared again without the pieces
    that more than half of them hold. Rows in which little else is stay together, unless these are
    more than half of all rows.

    Args:
        family: (N,) the first row of each row's family.
        store: the rows.
        ids: (N,) hash of each row.
        folder: for files that are deleted again.

    Returns:
        The families after that, (N,), and which rows were in a large one, (N,) bool.
    """
    limit = max(len(family) / 10, min(20, len(family) / 2))
    names, sizes = np.unique(family, return_counts=True)
    large = np.isin(family, names[sizes > limit])
    parted = family.copy()
    for name in names[sizes > limit]:
        rows = np.flatnonzero(family == name)
        common = _common(store, rows[:: -(-len(rows) // SAMPLE)])
        contents, core = Families(folder), np.zeros(len(rows), dtype=np.bool_)
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            rest = [np.setdiff1d(pieces, common) for pieces in _pieces(store, block)]
            lengths = np.array([len(pieces) for pieces in rest], dtype=np.int32)
            core[start : start + BLOCK] = lengths < CONTENT
            contents.add(np.stack([signature(pieces) for pieces in rest]), lengths)
        parted[rows] = rows[contents.join(ids[rows])]
        if core.sum() <= len(family) / 2:
            parted[rows[core]] = rows[core][:1].repeat(core.sum())
        else:
            parted[rows[core]] = rows[core]
    return first_rows(parted), large


def _pieces(store: Store, rows: Labels) -> list[npt.NDArray[np.uint64]]:
    return [shingles(question(turns)) for turns in store.stream(rows)]


def _common(store: Store, rows: Labels) -> npt.NDArray[np.uint64]:
    """The pieces that more than half of the rows hold."""
    pieces, counts = np.unique(np.concatenate(_pieces(store, rows)), return_counts=True)
    return pieces[counts > len(rows) / 2]
