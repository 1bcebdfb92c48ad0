"""The book of a preparation: what became of every row."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tuner.data.clean import STEPS, Cleaned, Dropped

SHOWN = 20  # dropped and flagged rows that are kept at hand for messages and the card


class Account:
    """Counts rows by step and by reason, and writes every dropped one to a file.

    Args:
        rejected: where a line of JSON is written for each dropped row.
    """

    def __init__(self, rejected: IO[str]) -> None:
        self.rejected = rejected
        self.seen = 0
        self.malformed = Counter[str]()
        self.steps = Counter[str]()  # rows dropped, by step
        self.reasons = Counter[str]()
        self.changed = Counter[str]()
        self.flags = Counter[str]()
        self.redacted = Counter[str]()
        self.shown: list[Dropped] = []
        self.flagged: list[str] = []
        self.reply_tokens = 0
        self.kept_reply_tokens = 0
        self.lengths: list[npt.NDArray[np.int32]] = []

    def drop(self, one: Dropped) -> None:
        """Enter a row that a step took out."""
        self.steps[one.step] += 1
        self.reasons[one.reason] += 1
        if one.step == "validity" and len(self.shown) < SHOWN:
            self.shown.append(one)
        # ASCII alone: a reason may hold half of a surrogate pair.
        self.rejected.write(json.dumps(asdict(one)) + "\n")

    def reject(self, reason: str, where: str) -> None:
        """Enter a malformed row."""
        self.malformed[reason] += 1
        self.drop(Dropped("validity", reason, where))

    def add(self, block: Cleaned) -> None:
        """Enter what became of a block of rows."""
        self.lengths.append(block.all_lengths)
        self.changed.update(block.changed)
        self.redacted.update(block.redacted)
        self.flags.update(Counter(name for name, _ in block.flagged))
        room = SHOWN - len(self.flagged)
        self.flagged += [f"{where}: {name}" for name, where in block.flagged[:room]]
        self.reply_tokens += block.reply_tokens
        self.kept_reply_tokens += int(block.targets.sum())
        for one in block.dropped:
            self.drop(one)

    @property
    def all_lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of every row that was tokenised, before the length limit."""
        return np.concatenate([np.zeros(0, np.int32), *self.lengths])

    def why_malformed(self, allowed: float, hint: str) -> str:
        """The message about more malformed rows than may be dropped."""
        shown = "\n".join(f"  {one.where}: {one.reason}" for one in self.shown[:5])
        return (
            f"data.source: {self.malformed.total()} of {self.seen} rows cannot be used "
            f"({listed(self.malformed)}); up to {allowed:.0%} "
            f"(data.curation.max_rejected) would be dropped and counted. "
            f"{hint}{'. ' if hint else ''}The first:\n{shown}"
        )

    def why_nothing_left(self, max_length: int) -> str:
        """The message about a data set of which no row is left."""
        lengths, dropped = self.all_lengths, listed(self.reasons)
        if self.reasons["longer_than_max_length"] and len(lengths):
            return (
                f"data.max_length: {max_length} tokens leave nothing to train on: the "
                f"shortest of {len(lengths)} rows has {lengths.min()} tokens, the longest "
                f"{lengths.max()}. Dropped: {dropped}"
            )
        return f"data.source: none of {self.seen} rows is left to train on. Dropped: {dropped}"

    def as_json(self) -> dict[str, Any]:
        """The book as plain JSON values."""
        lost = self.reply_tokens - self.kept_reply_tokens
        shares = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)
        quantiles = np.quantile(self.all_lengths, shares)
        return {
            "rows_in": self.seen,
            "steps": self._steps(),
            "dropped": dict(self.reasons.most_common()),
            "redacted": dict(sorted(self.redacted.items())),
            "truncated": self.changed["length"],
            "reply_tokens_lost": {"tokens": lost, "share": lost / max(self.reply_tokens, 1)},
            "rejected": [f"{one.where}: {one.reason}" for one in self.shown],
            "flagged": {name: count for name, count in sorted(self.flags.items()) if count},
            "flagged_rows": self.flagged,
            "token_length_quantiles": {
                f"{q:g}": int(v) for q, v in zip(shares, quantiles, strict=True)
            },
        }

    def _steps(self) -> list[dict[str, Any]]:
        """The steps in their order, each with the rows that came, went and changed."""
        names = ("source", "validity", *STEPS, "exact_duplicates", "near_duplicates")
        rows, steps = self.seen, list[dict[str, Any]]()
        for name in names:
            dropped = self.steps[name]
            steps.append(
                {"step": name, "rows": rows, "dropped": dropped, "changed": self.changed[name]}
            )
            rows -= dropped
        return steps


def listed(counts: Counter[str]) -> str:
    """Counts as text, the largest first."""
    return ", ".join(f"{name}: {count}" for name, count in counts.most_common())
