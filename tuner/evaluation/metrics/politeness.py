"""Politeness: how many of the usual ways of being polite a reply uses."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

from tuner.data.annotate import anywhere, plain
from tuner.evaluation.metric import Kind, Metric, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.evaluation.predictions import Prediction

STRATEGIES = {
    "gratitude": (
        "thank", "thanks", "thankful", "grateful", "gratitude", "appreciate", "appreciated",
        "much obliged",
    ),
    "apology": (
        "sorry", "apologise", "apologize", "apologies", "apology", "forgive", "excuse me",
        "excuse my", "excuse us", "pardon", "regret",
    ),
    "please": ("please", "kindly"),
    "greeting": (
        "dear", "hello", "hi", "good morning", "good afternoon", "good evening", "greetings",
        "welcome",
    ),
    "deference": (
        "great question", "good question", "great point", "good point", "good idea", "great idea",
        "well done", "nice work", "good work", "great work", "congratulations", "of course",
        "certainly", "my pleasure", "a pleasure", "happy to", "glad to", "pleased to",
        "delighted to",
    ),
    "request": (
        "could you", "would you", "can you", "will you", "may i", "might i", "could i", "may we",
        "could we", "if you could", "if you would", "would it be possible", "would you mind",
    ),
    "hedge": (
        "perhaps", "maybe", "possibly", "i think", "i believe", "i suppose", "i wonder",
        "it seems", "it appears", "i am afraid", "i'm afraid", "we are afraid", "if possible",
        "i would suggest", "i'd suggest", "you may want to", "you might want to",
    ),
}  # fmt: skip
"""English markers of each strategy, in lower case; written for this project."""


class Politeness(Metric):
    """Share of seven strategies of politeness that a reply uses, 0 to 1.

    Gratitude, apology, please, greeting, deference, request by a modal verb, and hedge, after those
    that Danescu-Niculescu-Mizil et al. found to go with judgements of politeness; each counts once,
    however often its markers stand there. A set's value is the mean. Markers are whole words and
    phrases of English; sarcasm and negation are out of scope. Neither direction is better: a
    reply with every marker is servile, a label or a docstring needs none, and long replies have
    room for more of them.
    """

    keys: ClassVar[tuple[str, ...]] = ("politeness",)
    paper: ClassVar[str] = "https://aclanthology.org/P13-1025"
    kind: ClassVar[Kind] = "tone"
    higher_is_better: ClassVar[bool | None] = None
    needs_reference: ClassVar[bool] = False

    def signatures(self) -> dict[str, str]:
        """Returns the number of strategies and the hash of the lexicon."""
        lexicon = hashlib.sha256(repr(STRATEGIES).encode()).hexdigest()
        text = f"strategies:{len(STRATEGIES)}|lexicon:sha256 {lexicon[:12]}|aggregate:mean"
        return {"politeness": f"tuner politeness|version:1|{text}"}

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 2): the value and 1."""
        shares = [len(strategies(row.prediction)) / len(STRATEGIES) for row in rows]
        return {"politeness": Scores.mean(shares)}


def strategies(text: str) -> set[str]:
    """Returns the names of the strategies that a text uses."""
    folded = plain(text)
    return {name for name, marker in _MARKERS.items() if marker.search(folded)}


_MARKERS = {name: anywhere(markers) for name, markers in STRATEGIES.items()}
