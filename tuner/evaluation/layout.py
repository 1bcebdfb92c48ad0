"""Numbers and tables as reports show them, before any markup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTHING = "-"  # where there is no value
FEW = 20  # below this many examples an interval says little


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what stands in it.
        note: what stands behind it in small print.
        tone: `better` or `worse`, where it is a verdict.
    """

    text: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title; numbers are flush right.

    Attributes:
        title: what it shows.
        head: names of the columns.
        rows: a cell for each column.
        left: how many of the first columns hold text.
    """

    title: str
    head: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    left: int = 1


def value_of(value: float | None) -> str:
    """Three decimals, none for large values, or a dash where there is no value."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def span_of(ends: Sequence[float] | None) -> str:
    """The ends of an interval."""
    return NOTHING if ends is None else " to ".join(map(value_of, ends))


def signed(value: float | None) -> str:
    """A difference, with its sign."""
    if value is None:
        return NOTHING
    return f"{value:+.3f}" if abs(value) < 1000 else f"{value:+,.0f}"


def signed_span(ends: Sequence[float] | None) -> str:
    """The ends of a difference's interval."""
    return NOTHING if ends is None else " to ".join(map(signed, ends))


def p_of(p: float | None) -> str:
    """A p-value."""
    return NOTHING if p is None else f"{p:.4f}"


def percent(share: float | None) -> str:
    """A share from 0 to 1 in percent."""
    return NOTHING if share is None else f"{share:.1%}"


def percents(ends: Sequence[float] | None) -> str:
    """The ends of a share's interval."""
    return NOTHING if ends is None else " to ".join(map(percent, ends))


def count_of(number: float | None) -> str:
    """A number of things, in groups of three digits."""
    return NOTHING if number is None else f"{number:,}"
