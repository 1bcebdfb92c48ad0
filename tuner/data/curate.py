"""From a source's rows to clean, split, tokenised rows on disk, with an account of all of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tuner.data.account import Account, listed
from tuner.data.clean import Cleaner, Dropped
from tuner.data.curation import Curation
from tuner.data.example import Example, Item, Rejected, Skipped
from tuner.data.leaks import leak_check
from tuner.data.near import Families, first_rows
from tuner.data.pool import cleaned
from tuner.data.split import SPLITS, Size, joined, split_rows
from tuner.data.store import ROWS, SCHEMA, EncodedRows, Examples, Store
from tuner.data.templates import part_templates
from tuner.errors import UserError

FEW_LEAKS = 5  # test rows: a share of very few says little
BLOCK = 1000  # examples cleaned together
REJECTED = "rejected.jsonl"  # every row that was dropped: step, reason, where
ARRAYS = ("ids", "draws", "prompts", "replies", "lengths", "targets")


@dataclass
class Curated:
    """The splits of a data set and the account of how they came about.

    Attributes:
        folder: where the rows lie.
        splits: examples of train, val and test.
        encoded: the same rows as token ids and labels.
        contaminated: for each test row, whether it was also seen in training in some form.
        all_lengths: tokens of every row that was tokenised, before the length limit.
        account: counts of rows, by step and by reason; plain JSON values.
    """

    folder: Path
    splits: dict[str, Examples]
    encoded: dict[str, EncodedRows]
    contaminated: npt.NDArray[np.bool_]
    all_lengths: npt.NDArray[np.int32]
    account: dict[str, Any]

    @property
    def seen(self) -> int:
        """Rows read."""
        return self.account["rows_in"]

    @property
    def dropped(self) -> Counter[str]:
        """Rows that did not make it, by reason."""
        return Counter(self.account["dropped"])

    @classmethod
    def open(cls, folder: Path) -> Curated:
        """What `curate` left in a folder."""
        store = Store(folder)
        arrays = np.load(folder / "index.npz")
        splits: dict[str, Examples] = {}
        encoded: dict[str, EncodedRows] = {}
        for name in SPLITS:
            rows = arrays[name]
            splits[name] = Examples(store, rows)
            encoded[name] = EncodedRows(
                store, rows, arrays["lengths"][rows], arrays["targets"][rows]
            )
        account = json.loads((folder / "account.json").read_text(encoding="utf-8"))
        return cls(folder, splits, encoded, arrays["contaminated"], arrays["all_lengths"], account)


def curate(
    items: Iterable[Item],
    cleaner: Cleaner,
    folder: Path,
    *,
    val_size: Size,
    test_size: Size,
    hint: str = "",
    processes: int | None = None,
) -> Curated:
    """Clean the rows of a source, split them by group, check for leaks and write all to a folder.

    Args:
        items: what a source gives, read once.
        cleaner: the steps that look at one row at a time.
        folder: an empty folder.
        val_size: validation rows, as a share (float) or a count (int).
        test_size: test rows, likewise.
        hint: what rows should look like, for the message about rows that do not.
        processes: that clean large sets; the CPUs at hand when null.

    Raises:
        UserError: no rows, too many malformed, nothing left to train on, or too many leaks.
    """
    with (folder / REJECTED).open("w", encoding="utf-8") as rejected:
        build = _Build(cleaner, folder, Account(rejected))
        build.ingest(items, hint, processes or os.cpu_count() or 1)
        index = build.index()
        kept = build.distinct(index)
    return build.finish(index, kept, val_size, test_size)


class _Build:
    """The state of one preparation."""

    def __init__(self, cleaner: Cleaner, folder: Path, account: Account) -> None:
        self.cleaner = cleaner
        self.rules: Curation = cleaner.rules
        self.folder = folder
        self.account = account
        self.parts: list[dict[str, npt.NDArray[Any]]] = []
        self.families = Families(folder)

    def ingest(self, items: Iterable[Item], hint: str, processes: int) -> None:
        """Clean block by block and write what is left."""
        blocks = _blocks(self._examples(items))
        with pa.OSFile(str(self.folder / ROWS), "wb") as file, pa.ipc.new_file(file, SCHEMA) as out:
            for block in cleaned(blocks, self.cleaner, processes):
                if block.batch.num_rows:
                    out.write_batch(block.batch)
                self.parts.append({name: getattr(block, name) for name in ARRAYS})
                self.account.add(block)
                self.families.add(block.signatures, block.sizes)
        if not self.account.seen:
            raise UserError("data.source: there are no rows in it")
        if self.account.malformed.total() > self.rules.max_rejected * self.account.seen:
            raise UserError(self.account.why_malformed(self.rules.max_rejected, hint))

    def _examples(self, items: Iterable[Item]) -> Iterator[Example]:
        for item in items:
            self.account.seen += 1
            if isinstance(item, Rejected):
                self.account.reject(item.reason, item.where)
            elif isinstance(item, Skipped):
                self.account.drop(Dropped("source", item.reason, item.where))
            else:
                yield item

    def index(self) -> dict[str, npt.NDArray[Any]]:
        """What is kept in memory of every row."""
        if not any(len(part["ids"]) for part in self.parts):
            raise UserError(self.account.why_nothing_left(self.cleaner.max_length))
        index = {name: np.concatenate([part[name] for part in self.parts]) for name in ARRAYS}
        self.parts.clear()
        return index

    def distinct(self, index: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
        """Drop repetitions; give near duplicates one draw. Returns the rows that are left."""
        first = first_rows(index["ids"])
        rows = np.arange(len(first))
        kept = first == rows
        store = Store(self.folder)

        def drop(which: npt.NDArray[np.bool_], step: str, reason: str) -> None:
            for row in np.flatnonzero(which):
                where = str(store.example(int(row)).meta.get("where", ""))
                self.account.drop(Dropped(step, reason, where))

        drop(~kept, "exact_duplicates", "repeated")
        # Whichever of its groups a repeated row is kept in, the split is the same.
        index["draws"] = joined(index["draws"], first)
        family = self.families.join(index["ids"])
        family, template = part_templates(family, store, index["ids"], self.folder)
        index["family"] = family
        self.account.flags["template_rows"] = int(template[kept].sum())
        self.account.flags["near_duplicates"] = int((kept & (family != rows)).sum())
        if self.rules.near_duplicates == "drop":
            drop(kept & (family != rows), "near_duplicates", "near_duplicate")
            kept &= family == rows
        elif self.rules.near_duplicates == "group":
            index["draws"] = joined(index["draws"], family)
        return np.flatnonzero(kept)

    def finish(
        self,
        index: dict[str, npt.NDArray[Any]],
        kept: npt.NDArray[np.int64],
        val_size: Size,
        test_size: Size,
    ) -> Curated:
        """Split, check for leaks, write index and account."""
        split = split_rows(index["draws"][kept], val_size, test_size)
        rows = {name: kept[split == place] for place, name in enumerate(SPLITS)}
        contaminated, leaks = leak_check(Store(self.folder), rows, index)
        share = contaminated.mean() if len(contaminated) else 0.0
        many = share > self.rules.max_leaks and contaminated.sum() > FEW_LEAKS
        if many and "leaks" not in self.rules.allow:
            raise UserError(
                f"data.curation.max_leaks: {share:.1%} of the test rows were also seen in "
                f"training ({listed(Counter(leaks))}), more than {self.rules.max_leaks:.0%}. Give "
                "the rows a `group`, set data.curation.near_duplicates to group or drop, or, if "
                "that is meant, --data.curation.allow '[leaks]'"
            )
        arrays: dict[str, Any] = {name: index[name] for name in ("lengths", "targets")}
        arrays |= {"contaminated": contaminated, "all_lengths": self.account.all_lengths}
        np.savez(self.folder / "index.npz", **arrays, **rows)  # pyright: ignore[reportArgumentType]
        account = self.account.as_json() | {
            "rows_out": len(kept),
            "splits": {name: _split(index, which) for name, which in rows.items()},
            "leak_check": leaks,
        }
        text = json.dumps(account, indent=2)
        (self.folder / "account.json").write_text(text + "\n", encoding="utf-8")
        return Curated.open(self.folder)


def _split(index: dict[str, npt.NDArray[Any]], rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "groups": len(np.unique(index["draws"][rows])),
        "tokens": int(index["lengths"][rows].sum()),
        "supervised_tokens": int(index["targets"][rows].sum()),
        "sha256": split_hash(f"{number:016x}" for number in index["ids"][rows].tolist()),
    }


def split_hash(ids: Iterable[str]) -> str:
    """SHA-256 of the sorted ids of a split: equal for equal rows in any order."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def _blocks(examples: Iterator[Example]) -> Iterator[list[Example]]:
    return iter(lambda: list(islice(examples, BLOCK)), [])
