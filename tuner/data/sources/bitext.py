"""Bitext customer support: 26,872 generated questions and replies (CDLA-Sharing-1.0).

One real row:
    flags=B, instruction="question about cancelling order {{Order Number}}", category=ORDER,
    intent=cancel_order, response="I've understood you have a question regarding canceling ..."
"""

from __future__ import annotations

import re

from tuner.data.example import Example, Message, Rejected
from tuner.data.reading import Row
from tuner.data.sources.base import Source, group_of, text_of

SLOT = re.compile(r"\{\{.*?\}\}")
NOT_A_LETTER = re.compile(r"[^a-z ]+")
LOST_CHARACTER = "�"


class Bitext(Source):
    """Customer-support questions over 27 intents, expanded from templates (Bitext 2023).

    A group is a phrasing without its slots, digits, punctuation and word order, so that the
    plainest variants of one utterance stay on one side of a split. Rows with lost characters
    (U+FFFD) are rejected and counted. `{{Placeholders}}` are kept as they are.

    Args:
        path: a local copy (CSV with flags, instruction, category, intent, response).
        limit: use this many examples, drawn at random; all when null.
        seed: seed of that draw.
        revision: branch, tag or commit of the hub data set.
    """

    hub = "bitext/Bitext-customer-support-llm-chatbot-training-dataset"
    licence = "CDLA-Sharing-1.0"
    required = frozenset({"flags", "instruction", "category", "intent", "response"})

    def __init__(
        self,
        path: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        revision: str | None = None,
    ) -> None:
        super().__init__(path, limit, seed, revision)

    def example(self, row: Row, where: str) -> Example | Rejected | None:
        """See the base class."""
        missing = self.required - row.keys()
        if missing:
            return Rejected(f"no_column_{min(missing)}", where)
        prompt, reply = text_of(row, "instruction"), text_of(row, "response")
        if not prompt or not reply:
            return Rejected("no_prompt" if not prompt else "no_reply", where)
        if LOST_CHARACTER in prompt or LOST_CHARACTER in reply:
            return Rejected("lost_characters", where)
        intent = text_of(row, "intent")
        words = NOT_A_LETTER.sub(" ", SLOT.sub(" ", prompt).lower()).split()
        return Example(
            messages=(Message("user", prompt), Message("assistant", reply)),
            group=group_of(" ".join([intent, *sorted(words)])),
            category=text_of(row, "category"),
            meta={"intent": intent, "flags": text_of(row, "flags"), "where": where},
        )
