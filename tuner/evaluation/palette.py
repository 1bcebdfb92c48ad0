"""What all plots share: colours, marks, the legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.evaluation.svg import short

if TYPE_CHECKING:
    from markupsafe import Markup

    Results = Mapping[str, Any]

# Okabe and Ito's palette, which colour-blind people can tell apart, without black and yellow.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BASE = "#8a8f94"
MARKS = "osD^vPX"


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with what stands above and below it."""

    title: str
    svg: Markup
    note: str


def colour_of(name: str, results: Results) -> str:
    """A system's colour, the same in all plots."""
    others = [one for one in results["systems"] if one != results["base"]]
    return COLOURS[others.index(name) % len(COLOURS)] if name in others else BASE


def legend(
    axes: Any, names: Sequence[str], results: Results, *, marks: bool | Sequence[str] = False
) -> None:
    """Puts the names above the axes, in their colours."""
    from matplotlib.lines import Line2D

    marked = [] if marks is False else list(names) if marks is True else list(marks)
    handles = [
        Line2D(
            [], [],
            color=colour_of(name, results),
            linewidth=1.5 if marks else 6,
            linestyle="-" if name in marked or not marks else ":",
            marker=MARKS[marked.index(name) % len(MARKS)] if name in marked else "",
            markersize=5,
        )
        for name in names
    ]  # fmt: skip
    longest = max((len(short(name)) for name in names), default=0)
    axes.legend(
        handles,
        [short(name) for name in names],
        loc="lower center",
        bbox_to_anchor=(0.45, 1.0),
        ncols=3 if longest < 12 else 2 if longest < 20 else 1,
        columnspacing=1.2,
    )
