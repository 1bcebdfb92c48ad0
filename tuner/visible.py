"""Text of others, safe to show in a terminal or on a page."""

import unicodedata

JOINERS = "\n\t\u200c\u200d"  # line layout, and what joins letters and emoji


def visible(text: str) -> str:
    """Control, bidirectional and invisible characters of a text as their escapes."""
    return "".join(
        one.encode("unicode_escape").decode()
        if one not in JOINERS and unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        else one
        for one in text
    )
