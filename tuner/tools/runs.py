"""`tuner runs`: a table of the runs, with their key figures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.errors import UserError, nearest
from tuner.overview import Row, overview
from tuner.parser import Parser
from tuner.process import run
from tuner.visible import visible

DESCRIPTION = """The runs under a folder, with their key figures.

The oldest run stands first, unless another column is named to sort by. Columns that the terminal
has no room for are left out, the last ones first; --json prints all of them, in full precision.
"""
GAP = 2  # columns of the terminal between two cells


def _plain(value: Any) -> str:
    return str(value)


# Keys of a row, from the most to the least important, with their titles and how they are shown.
COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "name": ("name", _plain),
    "version": ("version", _plain),
    "status": ("status", _plain),
    "val_loss": ("val_loss", "{:.4f}".format),
    "head": ("head", _plain),
    "score": ("score", "{:.3f}".format),
    "metric": ("metric", _plain),
    "steps": ("steps", "{:,}".format),
    "trainable_percent": ("trained", "{:.3f} %".format),
    "base": ("base", _plain),
    "tokens_per_second": ("tokens/s", "{:,.0f}".format),
    "peak_memory_mib": ("memory MiB", "{:,.0f}".format),
    "started": ("started", lambda value: str(value)[:16].replace("T", " ")),
    "comparison": ("comparison", _plain),
}
TEXTS = ("name", "status", "head", "metric", "base", "started", "comparison")  # flush left


def _parser() -> Parser:
    parser = Parser(prog="tuner runs", description=DESCRIPTION)
    parser.add_argument("--sort", type=str, default="started", help="column to sort by")
    parser.add_argument("--reverse", action="store_true", help="largest or newest first")
    parser.add_argument("--json", action="store_true", help="print a JSON list of all columns")
    parser.add_argument("--logs", "--root", type=Path, default=Path("logs"), help="folder of runs")
    return parser


def runs(args: Sequence[str] | None) -> None:
    """Read, sort and show.

    Raises:
        UserError: there is no such folder or column.
    """
    options = _parser().parse_args(args)
    if options.sort not in COLUMNS:
        raise UserError(f"--sort: no column '{options.sort}'. {nearest(options.sort, COLUMNS)}")
    if not options.logs.is_dir():
        raise UserError(f"--logs: no such folder: {options.logs}")
    rows = ordered(overview(options.logs), options.sort, reverse=options.reverse)
    if options.json:
        print(json.dumps(rows, indent=2))
    elif rows:
        _print(rows)
    else:
        print(f"There are no runs in {options.logs} yet: train.py fit makes one.")


def ordered(rows: Sequence[Row], key: str, *, reverse: bool) -> list[Row]:
    """The rows by one column; those without a value in it stand last, whatever the order.

    Args:
        rows: from `overview`, by name and version, which decide where values are equal.
        key: the column.
        reverse: the largest value first.
    """
    known = [row for row in rows if row[key] is not None]
    known.sort(key=lambda row: _worth(row, key), reverse=reverse)
    return known + [row for row in rows if row[key] is None]


def _worth(row: Row, key: str) -> Any:
    # Machines may write their times in different zones.
    return datetime.fromisoformat(row[key]).timestamp() if key == "started" else row[key]


def _line(text: str) -> str:
    return " ".join(visible(text).split())


def _print(rows: Sequence[Row]) -> None:
    cells = {
        key: ["" if row[key] is None else _line(show(row[key])) for row in rows]
        for key, (_, show) in COLUMNS.items()
    }
    console = Console(highlight=False)
    widths = {
        key: max(cell_len(title), *map(cell_len, cells[key])) + GAP
        for key, (title, _) in COLUMNS.items()
    }
    room = sum(widths.values())  # a file or another program takes lines of any length
    if console.is_terminal or "COLUMNS" in os.environ:
        room = console.width
    shown, left_out = list[str](), list[str]()
    for key, (title, _) in COLUMNS.items():
        if not any(cells[key]):
            continue
        fits = sum(widths[one] for one in (*shown, key)) - GAP <= room
        if not shown or (fits and not left_out):
            shown.append(key)
        else:
            left_out.append(title)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for key in shown:
        justify = "left" if key in TEXTS else "right"
        table.add_column(Text(COLUMNS[key][0]), justify=justify, no_wrap=True, overflow="ellipsis")
    for place in range(len(rows)):
        table.add_row(*(Text(cells[key][place]) for key in shown))
    Console(width=room, highlight=False).print(table)
    if left_out:
        console.print(Text(f"no room for {', '.join(left_out)}; --json has all", "dim"))


def main(args: Sequence[str] | None = None) -> int:
    """Show the runs.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code.
    """
    return run(lambda: runs(args))
