"""Words of a text in any script, for metrics that count them."""

from __future__ import annotations

import string
import unicodedata

from tuner.characters import Replacing

WORDS = (
    "tok:casefolded letters, marks and digits; Han and kana by character"
    f"|unicode:{unicodedata.unidata_version}"
)
"""How words are found, for signatures."""

_KANA = ("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA")


def _kept(character: str) -> str:
    kind = unicodedata.category(character)
    if character in "'\N{RIGHT SINGLE QUOTATION MARK}" or kind == "Cf":
        return ""  # apostrophes and invisible marks stand inside words
    if kind[0] not in "LMN":
        return " "
    if unicodedata.name(character, "").startswith(_KANA):
        return f" {character} "
    return character


_WORDS = Replacing(_kept)


def words(text: str) -> list[str]:
    """Parts a text into words, in time linear in its length.

    A word is a run of letters, marks and digits, casefolded; apostrophes are dropped (`don't` is
    `dont`), and so are emoji and other signs. Chinese and Japanese characters are words of their
    own. Thai and other scripts without blanks count what stands between two blanks as one word.
    """
    return text.casefold().translate(_WORDS).split()


def grams(found: list[str], order: int) -> list[tuple[str, ...]]:
    """Returns the runs of `order` words, in order; none where there are fewer words."""
    return list(zip(*(found[start:] for start in range(order)), strict=False))


def is_punctuation(character: str) -> bool:
    """Whether a character is punctuation or a sign of ASCII, or Unicode's punctuation."""
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def without_punctuation(text: str) -> str:
    """Leaves out what `is_punctuation` says is some."""
    return text.translate(_UNPUNCTUATED)


_UNPUNCTUATED = Replacing(lambda character: "" if is_punctuation(character) else character)
