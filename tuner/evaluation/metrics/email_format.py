"""Format of formal e-mails."""

from __future__ import annotations

import re
from typing import ClassVar

from tuner.evaluation.metrics.formats import Format
from tuner.evaluation.words import words

_LINE = 80  # characters of the longest greeting, closing or name
_BODY = 5  # words of the shortest body
_END = 6  # lines; the closing stands among the last so many
_NAME = 6  # words of the longest name
_GREETING = re.compile(
    r"(?:dear|hello|hi|greetings|good (?:morning|afternoon|evening|day)|to whom it may concern)\b"
    r"[^.?]*(?:\.[^.?]+){0,3}[,:!]$"
)
# Every word of a closing is one of these, and one at least of the first.
_CLOSES = (
    "regards", "wishes", "thanks", "thank", "gratitude", "appreciation", "sincerely", "faithfully",
    "respectfully", "truly", "cordially", "gratefully", "best", "cheers",
)  # fmt: skip
_AROUND = (
    "with", "kind", "kindest", "warm", "warmest", "many", "my", "our", "the", "very", "much", "all",
    "and", "yours", "you", "sincere", "deep", "again", "in", "advance",
)  # fmt: skip


class EmailFormat(Format):
    """Share of four checks that an e-mail passes, 0 to 1: greeting, closing, name, body.

    1. The first line, after a subject line if there is one, is a greeting and nothing else: `Dear
       Dr. Petrov,`.
    2. One of the last six lines is a closing and nothing else: `With kind regards,`.
    3. Below it stands a name of at most six words; `[Your Name]` is none.
    4. At least five words stand between greeting and closing.

    Blank lines do not count. Greetings and closings are English. Whether the e-mail says what it
    should is not looked at.
    """

    keys: ClassVar[tuple[str, ...]] = ("email_format",)
    paper: ClassVar[str] = "https://arxiv.org/abs/2311.07911"
    format: ClassVar[str] = "email"

    def checks(self, text: str) -> tuple[bool, ...]:
        """Returns the four checks, in the order of the class's docstring."""
        lines = [line for line in map(str.strip, text.splitlines()) if line]
        if lines and lines[0].casefold().startswith("subject:"):
            lines = lines[1:]
        greets = bool(lines) and _is_greeting(lines[0])
        last = range(len(lines) - 1, max(len(lines) - 1 - _END, 0), -1)
        closing = next((number for number in last if _is_closing(lines[number])), 0)
        body = " ".join(lines[1:closing]) if greets else ""
        named = closing > 0 and closing + 1 < len(lines) and _is_name(lines[closing + 1])
        return greets, closing > 0, named, len(words(body)) >= _BODY


def _is_greeting(line: str) -> bool:
    return len(line) <= _LINE and _GREETING.match(line.casefold()) is not None


def _is_closing(line: str) -> bool:
    found = set(words(line)) if len(line) <= _LINE else set[str]()
    return not found.isdisjoint(_CLOSES) and found <= {*_CLOSES, *_AROUND}


def _is_name(line: str) -> bool:
    if len(line) > _LINE or re.search(r"[\[\]<>{}?!]", line):
        return False
    return 1 <= len(words(line)) <= _NAME
