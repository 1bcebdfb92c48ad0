"""Text of others, safe to show in a terminal or on a page."""

import unicodedata

from tuner.characters import Replacing

JOINERS = "\n\t\u200c\u200d"  # line layout, and what joins letters and emoji


def visible(text: str) -> str:
    """Control, bidirectional and invisible characters of a text as their escapes."""
    return text.translate(_ESCAPES)


def _escaped(one: str) -> str:
    if one not in JOINERS and unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return one.encode("unicode_escape").decode()
    return one


_ESCAPES = Replacing(_escaped)
