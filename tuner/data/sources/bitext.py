"""Bitext customer support: 26,872 generated questions and replies (CDLA-Sharing-1.0).

One real row:
    flags=B, instruction="question about cancelling order {{Order Number}}", category=ORDER,
    intent=cancel_order, response="I've understood you have a question regarding canceling ..."
"""

from __future__ import annotations

import re
from typing import Literal

from tuner.data.example import Example, Message, Rejected, fraction
from tuner.data.phrasing import phrasing
from tuner.data.reading import Row
from tuner.data.sources.base import Source, group_of, text_of

SLOT = re.compile(r"\{\{(?:[^{}]|\{\{[^{}]*\}\})*\}\}")  # some slots hold another
# Invented values by what a slot's name holds; the first that fits decides. Other slots are labels
# of a web page, such as {{Settings}}, and become their own name.
VALUES = {
    "order number": ("MB-10482", "MB-20917", "MB-31556", "MB-47730"),
    "tracking number": ("TR-882014", "TR-903377", "TR-951126"),
    "invoice number": ("INV-2201", "INV-3874", "INV-4409", "INV-5512"),
    "phone": ("555-0142", "555-0167", "555-0183", "555-0191"),
    "email": ("help@example.com", "support@example.com", "care@example.com"),
    "url": ("www.example.com", "shop.example.com"),
    "hours": ("Monday to Friday, 9 am to 5 pm", "Monday to Saturday, 8 am to 6 pm"),
    "date": ("3 to 10 March", "14 to 21 June", "1 to 8 September"),
    "amount": ("24", "59", "112", "240"),
    "currency": ("$",),
    "country": ("Norway", "Portugal", "Canada"),
    "city": ("Bergen", "Porto", "Halifax"),
    "salutation": ("Ms", "Mr", "Mx"),
    "last name": ("Moor", "Reed", "Vale"),
    "company name": ("Mossbarrow",),
    "name": ("Alex Moor", "Sam Reed", "Kim Vale"),
    "account type": ("Standard", "Plus", "Premium"),
    "account category": ("Standard", "Plus", "Premium"),
}
LOST_CHARACTER = "�"


class Bitext(Source):
    """Customer-support questions over 27 intents, expanded from templates (Bitext 2023).

    A group is a phrasing of an intent without its slots in any spelling (`tuner.data.phrasing`), so
    that the variants of one utterance stay on one side of a split. Rows with lost characters
    (U+FFFD) are rejected and counted.

    Args:
        path: a local copy (CSV with flags, instruction, category, intent, response).
        limit: use this many examples, drawn at random; all when null.
        seed: seed of that draw.
        revision: branch, tag or commit of the hub data set.
        placeholders: `keep` slots such as `{{Order Number}}`, `fill` them with invented values, the
            same within a row and drawn from `seed` and the row's text, or `strip` them.
        reply: what is learned: the `response`, or the `intent`'s name, to make a classifier.
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
        placeholders: Literal["keep", "fill", "strip"] = "keep",
        reply: Literal["response", "intent"] = "response",
    ) -> None:
        super().__init__(path, limit, seed, revision)
        self.placeholders: Literal["keep", "fill", "strip"] = placeholders
        self.reply: Literal["response", "intent"] = reply

    def example(self, row: Row, where: str) -> Example | Rejected:
        """See the base class."""
        missing = self.required - row.keys()
        if missing:
            return Rejected(f"no_column_{min(missing)}", where)
        prompt, reply = text_of(row, "instruction"), text_of(row, self.reply)
        if not prompt or not reply:
            return Rejected("no_prompt" if not prompt else "no_reply", where)
        if LOST_CHARACTER in prompt or LOST_CHARACTER in reply:
            return Rejected("lost_characters", where)
        intent = text_of(row, "intent")
        group = group_of(f"{intent} {phrasing(SLOT.sub(' ', prompt)) or prompt}")
        if self.placeholders == "fill":
            prompt, reply = _filled(prompt, reply, self.seed)
        elif self.placeholders == "strip":
            prompt, reply = _stripped(prompt), _stripped(reply)
        if not prompt or not reply:
            return Rejected("nothing_but_placeholders", where)
        return Example(
            messages=(Message("user", prompt), Message("assistant", reply)),
            group=group,
            category=text_of(row, "category"),
            meta={"intent": intent, "flags": text_of(row, "flags"), "where": where},
        )


def _filled(prompt: str, reply: str, seed: int) -> tuple[str, str]:
    """Both texts with a value in each slot; a slot has one value in a row."""

    def value(slot: re.Match[str]) -> str:
        name = re.sub(r"[{}]", "", slot[0]).strip()
        fitting = (v for part, v in VALUES.items() if re.search(rf"\b{part}\b", name.lower()))
        values = next(fitting, (name,))
        return values[int(fraction(seed, f"{name} {prompt}") * len(values))]

    return SLOT.sub(value, prompt), SLOT.sub(value, reply)


def _stripped(text: str) -> str:
    """A text without its slots, and without the blanks and quotes that stood around them."""
    text = re.sub(rf"[\"'(]?{SLOT.pattern}[\"')]?", "", text)
    return re.sub(r" +([.,!?;:])", r"\1", re.sub(r"[ \t]{2,}", " ", text)).strip()
