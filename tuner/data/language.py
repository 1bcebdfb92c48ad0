"""Whether a text looks English: a heuristic, not a classifier."""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
# Words that English texts of any subject hold and that few other languages write alike.
COMMON = frozenset(
    WORD.findall(
        "the and of to is are was were be been have has had will would can could should you your i "
        "my we our they their it this that these those with for from what which who how when where "
        "why not do does did but if about there please thanks hi hello an as at by or"
    )
)
SHARE = 0.12  # of the words; English prose has about 0.4, other European languages below 0.05
FEWEST = 4  # words: shorter texts tell too little and pass when they are ASCII


def looks_english(text: str) -> bool:
    """Whether one in eight words at least is among the commonest of English.

    Names, code and lists of things may be taken for another language.
    """
    words = WORD.findall(text.lower())
    if len(words) < FEWEST:
        return text.isascii()
    return sum(word in COMMON for word in words) >= SHARE * len(words)
