"""What a message's text alone says of it: sentiment, priority and kind, for English.

The keyword rules look for whole words and phrases in any case, wherever they stand. Negation is
out of scope: "not urgent" counts as urgent, "no complaint" as a complaint. Other languages come
out as neutral, low and, without a question mark, other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from tuner.data.example import Example
from tuner.errors import UserError, nearest

Annotator = Literal["sentiment", "priority", "kind"]

NEUTRAL_UP_TO = 0.1  # polarity either way, of a range from -1 to 1
MOST_SIGNS = 32
SIGNS = re.compile(r"(?:[^\w\s]|_){33,}")

# It cannot wait, or money and access are at risk.
HIGH = (
    "urgent", "urgently", "urgency", "asap", "a.s.a.p", "as soon as possible", "immediate",
    "immediately", "at once", "right away", "straight away", "this instant", "emergency",
    "critical", "top priority", "high priority", "fraud", "fraudulent", "stolen", "hacked",
    "unauthorised", "unauthorized", "scammed", "legal action", "lawyer",
)  # fmt: skip
# A time is named, or something is overdue.
MEDIUM = (
    "soon", "today", "tonight", "tomorrow", "right now", "quickly", "hurry",
    "deadline", "important", "waiting", "overdue", "late", "delay", "delayed",
)  # fmt: skip
COMPLAINT = (
    "complain", "complains", "complained", "complaining", "complaint", "complaints",
    "unacceptable", "disappointed", "disappointing", "disgusted", "disgusting", "dissatisfied",
    "unhappy", "angry", "furious", "annoyed", "annoying", "frustrated", "frustrating", "fed up",
    "terrible", "awful", "horrible", "appalling", "dreadful", "useless", "worst", "rude",
    "ridiculous", "broken", "damaged", "faulty", "defective", "smashed", "not working",
    "doesn't work", "does not work", "stopped working", "never arrived", "hasn't arrived",
    "not arrived", "didn't arrive", "did not arrive", "still waiting", "charged twice",
    "overcharged", "wrong item",
)  # fmt: skip
ASKS = (
    "what", "what's", "when", "where", "where's", "who", "who's", "whom", "whose", "why", "how",
    "how's", "which", "can", "could", "do", "does", "did", "is", "are", "am", "was", "were",
    "will", "would", "may", "shall", "should", "has", "have you", "have i", "have we", "have they",
)  # fmt: skip
QUESTION_MARKS = ("?", "\uff1f", "\u061f")  # of Latin, full-width and Arabic writing


def _words(words: Iterable[str]) -> str:
    """A pattern of any of the words; blanks in a phrase stand for any white space."""
    return "(?:" + "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in words) + ")"


def anywhere(words: Iterable[str]) -> re.Pattern[str]:
    """Makes a pattern that finds any of the words as a whole, in a text made `plain`."""
    return re.compile(rf"(?<!\w){_words(words)}(?!\w)")


IS_HIGH, IS_MEDIUM, IS_COMPLAINT = anywhere(HIGH), anywhere(MEDIUM), anywhere(COMPLAINT)
STARTS_ASKING = re.compile(
    rf"(?:^|[.!;:\n]|\b(?:hi|hello|hey)(?:\s+there)?,?)\s*{_words(ASKS)}(?![\w']|\s+not\b)"
)


def polarity(text: str) -> float:
    """Tone of a text by TextBlob's pattern analyser, a lexicon that needs no download.

    Returns:
        -1 (negative) to 1 (positive); 0 for a text without a word of the lexicon.
    """
    from textblob import TextBlob

    # Its tokenizer needs time square in the length of a run of signs.
    text = SIGNS.sub(lambda run: run[0][:MOST_SIGNS], text)
    return float(cast("Any", TextBlob(text)).sentiment.polarity)


def sentiment(text: str) -> str:
    """Tone of a text as one of three.

    Returns:
        `negative` for a polarity below -0.1, `positive` above 0.1, else `neutral`.
    """
    found = polarity(text)
    if abs(found) <= NEUTRAL_UP_TO:
        return "neutral"
    return "positive" if found > 0 else "negative"


def priority(text: str) -> str:
    """Urgency of a text by its keywords.

    Returns:
        `high` for a word of `HIGH`, else `medium` for one of `MEDIUM`, else `low`.
    """
    folded = plain(text)
    if IS_HIGH.search(folded):
        return "high"
    return "medium" if IS_MEDIUM.search(folded) else "low"


def kind(text: str) -> str:
    """What a text is, by the first rule that fits.

    Returns:
        `complaint` for a word of `COMPLAINT`; `question` for a question mark anywhere, or a word
        of `ASKS` (without "not") that starts the text or a sentence or comes after a greeting;
        else `other`.
    """
    folded = plain(text)
    if IS_COMPLAINT.search(folded):
        return "complaint"
    asks = any(mark in folded for mark in QUESTION_MARKS) or STARTS_ASKING.search(folded)
    return "question" if asks else "other"


ANNOTATORS: dict[str, Callable[[str], str]] = {
    "sentiment": sentiment,
    "priority": priority,
    "kind": kind,
}


def annotate(example: Example, names: Sequence[Annotator]) -> Example:
    """The example with what its last user message says of itself in `meta`.

    Args:
        example: a conversation; without a user message the empty text is annotated.
        names: annotators; each writes `meta[name]`, over a value that the source put there.

    Raises:
        UserError: there is no such annotator.
    """
    for name in names:
        if name not in ANNOTATORS:
            raise UserError(f"annotate: there is no '{name}'. {nearest(name, ANNOTATORS)}")
    asked = next((m.content for m in reversed(example.messages) if m.role == "user"), "")
    found = {name: ANNOTATORS[name](asked) for name in names}
    return replace(example, meta={**example.meta, **found})


def plain(text: str) -> str:
    """The text in lower case and with straight apostrophes, as the word lists are."""
    return text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").casefold()
