"""Text of others in Markdown that stays text: escaped in a line, fenced in a block."""

from __future__ import annotations

import re
from collections.abc import Mapping

from markupsafe import Markup

from tuner.visible import visible

# An underscore inside a word is harmless. An address becomes a link without any sign around it.
_MEANING = re.compile(
    r"([\\`*\[\]|~>$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.|@(?=[\w.-]+\.\w))", re.IGNORECASE
)
_ENTITY = re.compile(r"&(?=#|\w+;)")


def escape(text: str) -> str:
    """Makes a text one line without meaning in Markdown."""
    one_line = " ".join(visible(text).split())
    return _MEANING.sub(r"\\\1", _ENTITY.sub("&amp;", one_line)).replace("<", "&lt;")


def fence(text: str) -> Markup:
    """Puts a text into a code block."""
    shown = visible(text)
    ticks = _ticks(shown, 3)
    return Markup(f"{ticks}text\n{shown}\n{ticks}")


def blocks(texts: Mapping[str, str]) -> str:
    """Lays out texts one below the other, each in a code block under its title."""
    return "\n\n".join(f"{escape(title)}\n\n{fence(text)}" for title, text in texts.items())


def code(value: object) -> Markup:
    """Puts a value into a code span."""
    shown = " ".join(visible(str(value)).split())
    ticks = _ticks(shown, 1)
    return Markup(f"{ticks} {shown} {ticks}" if "`" in shown else f"{ticks}{shown}{ticks}")


def _ticks(text: str, least: int) -> str:
    """Returns more backticks than any run of them in the text, so that the text cannot end it."""
    return "`" * max([least, *(len(run) + 1 for run in re.findall("`+", text))])
