"""`tuner preview`: what the model is trained on, token by token."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader
from lightning.pytorch.cli import LightningArgumentParser
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.data.curate import Curated
from tuner.data.view import Piece, as_record, pieces
from tuner.errors import UserError
from tuner.process import run
from tuner.tools.options import FitOptions
from tuner.visible import as_json, visible

BINS = 10


class Preview(FitOptions):
    """Takes the options of `fit` and prepares the data, nothing else."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is to be shown."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--split", type=Literal["train", "val", "test"], default="train", help="which rows"
        )
        parser.add_argument("--rows", type=int | Literal["all"], default=3, help="how many of them")
        parser.add_argument("--json", action="store_true", help="print a JSON list of rows")
        parser.add_argument(
            "--html", type=Path | None, default=None, help="write a page to this file"
        )


def preview(args: Sequence[str] | None) -> None:
    """Prepare the data and show it.

    Raises:
        UserError: an option or the data does not fit.
    """
    cli = Preview(["fit", *(sys.argv[1:] if args is None else args)])
    options, data = cli.config["fit"], cli.datamodule
    if options.rows != "all" and options.rows < 1:
        raise UserError(f"--rows: {options.rows} is not allowed; give 1 or more, or all")
    if options.json and options.html:
        raise UserError("--json, --html: choose one of them")
    tokenizer = cli.model.tokenizer
    curated = data.prepare(tokenizer)
    wanted = slice(None if options.rows == "all" else options.rows)
    split = options.split
    records = [
        as_record(example, encoded, split, data.prompt, tokenizer)
        for example, encoded in zip(
            curated.splits[split][wanted], curated.encoded[split][wanted], strict=True
        )
    ]
    if options.json:
        print(as_json(records))
        return
    shown = [(record, pieces(record, tokenizer)) for record in records]
    if options.html:
        page = _page(shown, curated, data.card, split)
        try:
            options.html.write_text(page, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UserError(f"--html: cannot write {options.html}: {error.strerror}") from error
        print(f"Page: {options.html}")
        return
    _print(shown, curated, data.card, split)


def histogram(lengths: Sequence[int], longest: int = 40) -> list[tuple[str, int, str]]:
    """Rows by their number of tokens: (range, rows, bar) of ten bins of equal width."""
    counts, edges = np.histogram(lengths, bins=min(BINS, len(set(lengths)) or 1))
    most = max(int(counts.max()), 1)
    return [
        (f"{int(np.ceil(low))} to {int(high)}", int(n), "█" * -(-int(n) * longest // most))
        for n, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
    ]


def warnings(card: dict[str, Any]) -> list[str]:
    """What a person should know before training on this data."""
    found: list[str] = []
    lost = card["rows_in"] - card["rows_out"]
    if lost:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in list(card["dropped"].items())[:5])
        found.append(f"{lost:,} of {card['rows_in']:,} rows are not used: {reasons}")
    if card["truncated"]:
        found.append(f"{card['truncated']:,} rows were trimmed to fit data.max_length")
    if marks := card["flagged"].get("role_mark_in_text"):
        found.append(f"{marks:,} rows hold text that looks like a change of speaker")
    leaks = card["leak_check"]
    if leaks["contaminated"]:
        found.append(f"{leaks['contaminated']:,} of {leaks['test_rows']:,} test rows leak")
    empty = [name for name, part in card["splits"].items() if not part["rows"]]
    if empty:
        found.append(f"no rows in {', '.join(empty)}")
    return found


def _summary(curated: Curated, card: dict[str, Any], split: str) -> str:
    part = card["splits"][split]
    share = part["supervised_tokens"] / max(part["tokens"], 1)
    sizes = ", ".join(f"{name} {len(rows):,}" for name, rows in curated.splits.items())
    return (
        f"{card['source']['name']}: {sizes} rows. In {split}, {part['supervised_tokens']:,} of "
        f"{part['tokens']:,} tokens carry loss ({share:.1%})."
    )


Shown = list[tuple[dict[str, Any], list[Piece]]]


def _print(shown: Shown, curated: Curated, card: dict[str, Any], split: str) -> None:
    console = Console(highlight=False)
    for record, cut in shown:
        loss = sum(piece.loss for piece in cut)
        line = Text("\n").append(visible(str(record["id"])), "bold")
        console.print(line.append(f" {len(cut)} tokens, {loss} with loss"))
        line = Text()
        for place, piece in enumerate(cut):
            style = ("black on green", "black on bright_green") if piece.loss else ("dim", "")
            line.append(visible(piece.text), "black on red" if piece.special else style[place % 2])
        console.print(line)
    console.print(f"\n{_summary(curated, card, split)}", markup=False)
    table = Table("tokens a row", "rows", "", box=None)
    for row in histogram(curated.encoded[split].lengths.tolist()):
        table.add_row(row[0], f"{row[1]:,}", row[2])
    console.print(table)
    console.print("green: learned; red: control tokens; the rest is read only")
    for warning in warnings(card):
        console.print(Text("warning ", "yellow").append(visible(warning), "default"))


def _page(shown: Shown, curated: Curated, card: dict[str, Any], split: str) -> str:
    environment = Environment(
        loader=PackageLoader("tuner.tools", "."),
        autoescape=True,
        finalize=lambda value: visible(value) if isinstance(value, str) else value,
    )
    return environment.get_template("preview.html.j2").render(
        shown=shown,
        summary=_summary(curated, card, split),
        histogram=histogram(curated.encoded[split].lengths.tolist()),
        warnings=warnings(card),
        split=split,
    )


def main(args: Sequence[str] | None = None) -> int:
    """Show what the model is trained on.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code.
    """
    return run(lambda: preview(args))
