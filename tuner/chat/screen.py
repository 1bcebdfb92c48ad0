"""Replies in a terminal while they are being written: one below the other, or in columns.

Text of a model is shown through `visible`: nothing that it writes can steer the terminal.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich import box
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tuner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import Console

COLUMN = 30  # columns of the terminal that a reply needs beside another one


class Stacked:
    """Shows replies one below the other, in nothing but what a pipe could take as well.

    Args:
        names: of the systems; one alone is not named.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._named = len(names) > 1
        self._shown = ""

    def __enter__(self) -> Stacked:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        """Nothing to put away."""

    def begin(self, name: str) -> None:
        """The next system is about to answer."""
        self._shown = ""
        if self._named:
            _write(f"{visible(name)}: ")

    def show(self, text: str) -> None:
        """Show what is new of the reply."""
        text = visible(text)
        if text.startswith(self._shown):
            _write(text[len(self._shown) :])
            self._shown = text

    def end(self, remark: str) -> None:
        """The reply is whole."""
        _write(f"{' ' if self._shown and remark else ''}{remark}\n")


class Columns:
    """Shows replies beside each other, and leaves them there in full.

    While they are written, no more than their last lines are shown: what has left the screen could
    not be written over.

    Args:
        names: of the systems.
        console: the terminal.
    """

    def __init__(self, names: Sequence[str], console: Console) -> None:
        self._console = console
        self._texts = dict.fromkeys(names, Text())
        self._name = ""
        self._live = Live(console=console, transient=True, refresh_per_second=10)

    def __enter__(self) -> Columns:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        """Leave the replies on the screen."""
        self._live.stop()
        self._console.print(self._table(None))

    def begin(self, name: str) -> None:
        """The next system is about to answer."""
        self._name = name

    def show(self, text: str) -> None:
        """Show the reply so far."""
        self._texts[self._name] = Text(visible(text))
        self._live.update(self._table(max(self._console.height - 4, 1)))

    def end(self, remark: str) -> None:
        """The reply is whole."""
        if remark:
            text = self._texts[self._name]
            self._texts[self._name] = Text.assemble(text, " " if text else "", (remark, "dim"))

    def _table(self, most: int | None) -> Table:
        table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
        width = max(self._console.width // len(self._texts) - 4, 1)
        for name in self._texts:
            table.add_column(Text(visible(name)), ratio=1, overflow="fold")
        cells = self._texts.values()
        if most is not None:
            cells = [Text("\n").join(t.wrap(self._console, width)[-most:]) for t in cells]
        table.add_row(*cells)
        return table


def screen(names: Sequence[str], console: Console) -> Stacked | Columns:
    """What shows the replies of a turn: columns where there are several and room for them."""
    several = len(names) > 1 and console.width >= COLUMN * len(names)
    if several and console.is_terminal and not console.is_dumb_terminal:
        return Columns(names, console)
    return Stacked(names)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
