"""Format of Google-style docstrings."""

from __future__ import annotations

import inspect
import re
from typing import ClassVar

from tuner.evaluation.metrics.formats import Format

_SUMMARY = 100  # characters
_ORDER = ("Args", "Returns", "Yields", "Raises")  # one of the middle two
_OTHERS = (
    "Attributes", "Example", "Examples", "Note", "Notes", "See Also", "Todo", "Warning", "Warnings",
    "References",
)  # fmt: skip
_NAME = re.compile(r"\*{0,2}[\w.]+")


class GoogleDocstring(Format):
    """Share of five checks that a docstring passes, 0 to 1.

    1. The first line is a summary of at most 100 characters that ends as a sentence does.
    2. A blank line stands before each section.
    3. There is at least one of Args, Returns, Yields and Raises, each once and in this order.
    4. Each of them has text, indented below its header.
    5. Each entry of Args and Raises is `name: text` or `name (type): text`.

    Only a text without code fence and `def` line is a docstring; another one, and an empty one,
    passes nothing. Quotes of three around it are left out. Without sections, checks 2 to 5 fail.
    Whether the text is true of the function, or names its arguments, is not looked at.
    """

    keys: ClassVar[tuple[str, ...]] = ("docstring_format",)
    paper: ClassVar[str] = (
        "https://google.github.io/styleguide/pyguide.html#383-functions-and-methods"
    )
    format: ClassVar[str] = "docstring"

    def checks(self, text: str) -> tuple[bool, ...]:
        """Returns the five checks, in the order of the class's docstring."""
        lines = inspect.cleandoc(_unquoted(text)).split("\n")
        if not lines[0] or any(line.startswith(("```", "def ")) for line in map(str.strip, lines)):
            return (False,) * 5
        found, spaced = _sections(lines)
        names = [name for name, _ in found if name in _ORDER]
        bodies = [body for name, body in found if name in _ORDER]
        entries = [body for name, body in found if name in ("Args", "Raises")]
        return (
            _is_summary(lines[0]),
            bool(found) and spaced,
            bool(names) and names == [name for name in _ORDER if name in names],
            bool(bodies) and all(bodies),
            bool(bodies) and all(_has_entries(body) for body in entries),
        )


def _unquoted(text: str) -> str:
    text = text.strip()
    for quotes in ('"""', "'''"):
        if len(text) >= 6 and text.startswith(quotes) and text.endswith(quotes):
            return text[3:-3].strip()
    return text


def _is_summary(line: str) -> bool:
    return len(line) <= _SUMMARY and line.rstrip("`\"'").endswith((".", "?", "!"))


def _sections(lines: list[str]) -> tuple[list[tuple[str, list[str]]], bool]:
    """Returns each section's name and indented lines, and whether each has a blank line before."""
    found: list[tuple[str, list[str]]] = []
    spaced, inside = True, False
    for number, line in enumerate(lines):
        name = line.rstrip().removesuffix(":")
        if line.rstrip().endswith(":") and name in (*_ORDER, *_OTHERS):
            found.append((name, []))
            spaced = spaced and number > 0 and not lines[number - 1].strip()
            inside = True
        elif line.strip():
            inside = inside and line.startswith((" ", "\t"))
            if inside:
                found[-1][1].append(line)
    return found, spaced


def _has_entries(body: list[str]) -> bool:
    """Whether each of the lines that are indented least begins an entry."""
    indents = [len(line) - len(line.lstrip()) for line in body]
    for number, (line, indent) in enumerate(zip(body, indents, strict=True)):
        if indent > min(indents[0], indent):
            continue
        head, colon, text = line.strip().partition(":")
        names, bracket, kind = head.partition(" (")
        below = number + 1 < len(body) and indents[number + 1] > indent
        named = all(_NAME.fullmatch(name) for name in names.split(", "))
        if not (colon and named and (text.strip() or below)):
            return False
        if bracket and not kind.endswith(")"):
            return False
    return True
