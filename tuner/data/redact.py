"""Marks in place of personal data: e-mail addresses, phone, card and order numbers.

Patterns, not a classifier: names and street addresses are not found, and a number that looks like
a phone number is taken for one.
"""

from __future__ import annotations

import re
from collections import Counter

# In this order: what one pattern has replaced, the next ones no longer see.
PATTERNS = {
    "email": re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+(?<![.-])"),
    # Thirteen to nineteen digits in groups, as ISO/IEC 7812 has card numbers.
    "card": re.compile(r"(?<![\d.-])\d{4}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\d-])"),
    # A word that says what the number is, then at least four digits, with letters or dashes.
    "order": re.compile(
        r"(?P<said>\b(?:order|ticket|case|reference|ref|booking|confirmation|invoice|tracking"
        r"|account|customer)(?:\s+(?:number|no|nr|id|is))*\.?\s*:?\s*)(?:#\s*)?"
        # A number with a word behind it ("30minutes") is a measure, 19.. and 20.. are years.
        r"(?=[A-Z0-9-]*\d{2})(?!\d{1,3}[A-Z]{2,}\b|(?:19|20)\d{2}\b)[A-Z0-9][A-Z0-9-]{3,}\b",
        re.IGNORECASE,
    ),
    # Seven digits at least, with the signs that phone numbers are written with; no plain number.
    "phone": re.compile(
        r"(?<![\w.,/-])(?:\+\d[\d ().-]{6,17}\d|\(\d{2,5}\)[ -]?\d[\d -]{4,10}\d"
        r"|(?:1[ .-])?\d{2,5}[ .-]\d{3,4}[ .-]\d{4}|0\d{3,4}[ -]\d{5,6}|0\d{8,11}"
        r"|[2-9]\d{2}[2-9]\d{6}|\d{3}-\d{4})(?![\w/-]|\.\d)"
    ),
}


def redact(text: str) -> tuple[str, Counter[str]]:
    """Replace personal data by `[EMAIL]`, `[CARD]`, `[ORDER]` and `[PHONE]`.

    Returns:
        The text, and how often each kind was replaced.

    >>> redact("Write to jo@example.org about order 12345-A")
    ('Write to [EMAIL] about order [ORDER]', Counter({'email': 1, 'order': 1}))
    """
    counts = Counter[str]()
    for kind, pattern in PATTERNS.items():
        # What says that a number follows stays: the model should learn to speak of it.
        said = r"\g<said>" if "said" in pattern.groupindex else ""
        text, count = pattern.subn(f"{said}[{kind.upper()}]", text)
        if count:
            counts[kind] = count
    return text, counts
