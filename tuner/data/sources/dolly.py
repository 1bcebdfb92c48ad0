"""Databricks Dolly 15k: 15,011 instructions and replies written by people (CC BY-SA 3.0).

One real row:
    {"instruction": "Which is a species of fish? Tope or Rope", "context": "",
     "response": "Tope", "category": "classification"}
"""

from __future__ import annotations

import re
from typing import Literal

from tuner.data.example import Example, Item, Message, Rejected, Skipped
from tuner.data.reading import Row
from tuner.data.sources.base import Source, group_of, text_of

CITATION = re.compile(r"\s?\[(?:\d+|note \d+|citation needed)\]")


class Dolly(Source):
    """Instructions of everyday work, with a reference text for some (Conover et al. 2023).

    The context stands before the question; citation marks such as `[42]`, which the set's card
    says to strip, are taken out of it. A group is one instruction.

    Args:
        path: a local copy (JSONL with instruction, context, response, category).
        limit: use this many examples, drawn at random; all when null.
        seed: seed of that draw.
        revision: branch, tag or commit of the hub data set.
        keywords: keep only rows with one of these in instruction or category, whatever its case;
            all rows when null.
        match: whether a keyword is a whole `word` or any `substring`.
    """

    hub = "databricks/databricks-dolly-15k"
    licence = "CC BY-SA 3.0"
    required = frozenset({"instruction", "context", "response", "category"})

    def __init__(
        self,
        path: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        revision: str | None = None,
        keywords: list[str] | None = None,
        match: Literal["word", "substring"] = "word",
    ) -> None:
        super().__init__(path, limit, seed, revision)
        self.keywords = keywords
        self.match: Literal["word", "substring"] = match
        words = "|".join(re.escape(word) for word in keywords or [] if word)
        pattern = rf"(?<!\w)(?:{words})(?!\w)" if match == "word" else words
        self._wanted = re.compile(pattern, re.IGNORECASE) if words else None

    def example(self, row: Row, where: str) -> Item:
        """See the base class."""
        missing = self.required - row.keys()
        if missing:
            return Rejected(f"no_column_{min(missing)}", where)
        instruction, reply = text_of(row, "instruction"), text_of(row, "response")
        category = text_of(row, "category")
        if self._wanted and not self._wanted.search(f"{instruction} {category}"):
            return Skipped("no_keyword", where)
        if not instruction or not reply:
            return Rejected("no_prompt" if not instruction else "no_reply", where)
        context = CITATION.sub("", text_of(row, "context")).strip()
        prompt = f"{context}\n\n{instruction}" if context else instruction
        return Example(
            messages=(Message("user", prompt), Message("assistant", reply)),
            group=group_of(instruction),
            category=category,
            meta={"where": where},
        )
