"""Text in Markdown that stays text: escaped in a line, fenced in a block."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markupsafe import Markup

from tuner.visible import visible

if TYPE_CHECKING:
    from tuner.evaluation.layout import Table

# An underscore inside a word is harmless. An address becomes a link without any sign around it.
_MEANING = re.compile(
    r"([\\`*\[\]|~>]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.|@(?=[\w.-]+\.\w))", re.IGNORECASE
)
_ENTITY = re.compile(r"&(?=#|\w+;)")


def escape(value: object) -> object:
    """Makes a text one line without meaning in Markdown; what is marked up already stays."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    one_line = " ".join(visible(str(value)).split())
    return _MEANING.sub(r"\\\1", _ENTITY.sub("&amp;", one_line)).replace("<", "&lt;")


def fence(text: str) -> Markup:
    """Puts a text into a code block."""
    shown = visible(text)
    ticks = _ticks(shown, 3)
    return Markup(f"{ticks}text\n{shown}\n{ticks}")


def code(value: object) -> Markup:
    """Puts a value into a code span."""
    shown = " ".join(visible(str(value)).split())
    ticks = _ticks(shown, 1)
    return Markup(f"{ticks} {shown} {ticks}" if "`" in shown else f"{ticks}{shown}{ticks}")


def table(shown: Table) -> Markup:
    """Lays out a table as GitHub reads it."""
    marks = ("---" if column < shown.left else "--:" for column in range(len(shown.head)))
    rows = [[_cell(cell.text, cell.note) for cell in row] for row in shown.rows]
    lines = [[str(escape(name)) for name in shown.head], list(marks), *rows]
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _cell(text: str, note: str) -> str:
    return f"{escape(text)} ({escape(note)})" if note else str(escape(text))


def _ticks(text: str, least: int) -> str:
    """Returns more backticks than any run of them in the text, so that the text cannot end it."""
    return "`" * max([least, *(len(run) + 1 for run in re.findall("`+", text))])
