"""Text of others, safe to show in a terminal or on a page."""

import json
import unicodedata

from tuner.characters import Replacing

JOINERS = "\n\t\u200c\u200d"  # line layout, and what joins letters and emoji


def visible(text: str) -> str:
    """Control, bidirectional and invisible characters of a text as their escapes."""
    return text.translate(_ESCAPES)


def as_json(value: object) -> str:
    """A value in JSON, of which the same characters are escapes and all others as they are."""
    return json.dumps(value, ensure_ascii=False).translate(_JSON_ESCAPES)


def _hidden(one: str) -> bool:
    return one not in JOINERS and unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


_ESCAPES = Replacing(lambda one: one.encode("unicode_escape").decode() if _hidden(one) else one)
_JSON_ESCAPES = Replacing(lambda one: json.dumps(one)[1:-1] if _hidden(one) else one)
