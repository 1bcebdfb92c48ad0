"""`tuner sweep`: settings of a recipe, several seeds each, and the best on the test split."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from tuner.errors import UserError
from tuner.parser import Parser
from tuner.private import without_secrets
from tuner.process import held_back, run
from tuner.runs import inside
from tuner.sweep.definition import Definition
from tuner.sweep.reading import read_definition

DESCRIPTION = """Run a recipe with other values of some keys, several seeds each, every run in a
process of its own; then compare the settings with the lowest validation loss on the test split.

All other options are those of fit and hold for every run. The same command in another terminal, or
on another machine with the same --storage, works on the same sweep; after an interruption it goes
on where the runs stopped.
"""


def _parser() -> Parser:
    parser = Parser(prog="tuner sweep", description=DESCRIPTION)
    parser.add_argument("file", type=Path, metavar="FILE", help="YAML of configs/sweeps")
    parser.add_argument(
        "--config", type=str, action="append", help="recipe, instead of those in FILE"
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="likewise: seeds of each setting")
    parser.add_argument("--trials", type=int, help="likewise: settings that a search tries")
    parser.add_argument("--compare", type=int, help="likewise: settings for the test split")
    parser.add_argument("--name", type=str, help="of the sweep and its folder; that of FILE")
    parser.add_argument("--storage", type=str, help="database (SQLAlchemy URL) for many machines")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of the runs")
    return parser


def read(args: Sequence[str]) -> tuple[Any, Definition]:
    """Read a command line.

    Args:
        args: file, own options, and those of `fit`.

    Returns:
        The own options and the sweep.

    Raises:
        UserError: an option or the file does not fit.
    """
    parser = _parser()
    own: list[str] = []
    more: list[str] = []
    taking = own
    for word in args:  # an option is followed by its values
        if word.startswith("-"):
            known = word.split("=")[0] in parser._option_string_actions  # pyright: ignore
            taking = own if known else more
        taking.append(word)
    options = parser.parse_args(own)
    given = {key: options[key] for key in ("config", "seeds", "trials", "compare")}
    return options, read_definition(options.file, given, more)


def sweep(args: Sequence[str]) -> None:
    """Check, run the trials, sum up, compare.

    Raises:
        UserError: something in the sweep, its folder or its database does not fit.
    """
    options, definition = read(args)
    if find_spec("optuna") is None:
        raise UserError("tuner sweep needs Optuna, which is missing: pip install -e '.[sweep]'")
    from tuner.sweep.queue import Queue
    from tuner.sweep.report import write_report
    from tuner.sweep.storage import explained, open_storage, shown, sqlite_url
    from tuner.sweep.study import mark
    from tuner.sweep.summary import summarise
    from tuner.sweep.worker import work

    name = options.name or options.file.stem
    folder = inside(inside(options.logs, "sweeps"), name)
    check(definition)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--logs: cannot write to {folder}: {error.strerror}") from error
    url = options.storage or sqlite_url(folder / "sweep.sqlite")
    storage = open_storage(url)
    with held_back() as ask, explained(url):
        queue = Queue(storage, name, definition, folder)
        try:
            mark(folder, queue.id)
            print(f"Sweep {name}: {len(queue.trials())} runs, stored in {shown(url)}")
            sums_up = work(queue, definition, folder, ask)
            results = summarise(name, definition, queue.trials())
        finally:
            queue.close()
    if not sums_up:
        print("All runs have ended; the report is written where the last one did.")
        return
    command = shlex.join(["tuner", "sweep", *(a.replace(url, shown(url)) for a in args)])
    command = without_secrets(command)
    write_report(folder, results, command)
    compare_chosen(folder, definition, results)
    write_report(folder, results, command)
    _print(results)
    print(f"Report: {folder / 'report.html'} (and report.md, results.json)")
    states = {one["state"]: one["message"] for s in results["settings"] for one in s["runs"]}
    if set(states) == {"failed"}:
        raise UserError(f"every run has failed, the last one so: {states['failed']}")


def check(definition: Definition) -> None:
    """Refuse what no run could work with, before the first one: all settings as `fit` reads them.

    Raises:
        UserError: a key, a value or an option of the comparison does not fit.
    """
    from tuner.sweep.search import make_pruner
    from tuner.tools.compare import parse

    make_pruner(definition.pruner)
    parse(["run", *definition.evaluation])
    logging.disable(logging.INFO)  # Lightning says its seed for each setting
    try:
        for setting in definition.samples():
            try:
                _read(definition.arguments(setting))
            except UserError as error:
                said = " ".join(f"{key}={value}" for key, value in setting.items())
                raise UserError(f"{said}: {error}") from error
    finally:
        logging.disable(logging.NOTSET)


def _read(arguments: list[str]) -> None:
    from tuner.tools.options import FitOptions

    cli = FitOptions(arguments)
    if reason := cli.model.head.impossible(cli.model.settings()):
        raise UserError(reason)
    if not cli.datamodule.val_size or cli.config["fit"].trainer.limit_val_batches == 0:
        raise UserError(
            "data.val_size, trainer.limit_val_batches: settings are chosen by their validation "
            "loss, so none of these can be 0"
        )


def compare_chosen(folder: Path, definition: Definition, results: dict[str, Any]) -> None:
    """Let the settings that were chosen and their base answer the test split, once.

    Args:
        folder: of the sweep.
        definition: of the sweep.
        results: from `summarise`.

    Raises:
        UserError: the runs do not fit together.
    """
    from tuner.sweep.fit import seed_of
    from tuner.sweep.report import COMPARISON, read_comparison
    from tuner.tools.compare import evaluate

    runs = {
        one["name"]: one["runs"] for one in results["settings"] if one["name"] in results["chosen"]
    }
    every = [one for own in runs.values() for one in own]
    # On another machine, the same path may be that of a run with another seed.
    elsewhere = [one for one in every if seed_of(Path(one["run"])) != one["seed"]]
    for one in elsewhere:
        print(f"{one['run']} is on {one['host']}, not here: the comparison is without it")
    here = [name for name, own in runs.items() if any(one not in elsewhere for one in own)]
    done = read_comparison(folder)
    if not here or (done and {one["recipe"] for one in done["systems"].values()} - {""} == {*here}):
        return
    mixed = ["--no_base"] if len({one["base"] for one in every}) > 1 else []
    evaluate(
        [
            *(f"{name}@*" for name in here),
            f"--logs={folder}",
            f"--output={folder / COMPARISON}",
            *mixed,
            *definition.evaluation,
        ]
    )


def _print(results: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from tuner.sweep.findings import sentences, settings_table

    width = None if sys.stdout.isatty() else 160  # columns
    console = Console(highlight=False, markup=False, width=width)
    shown = settings_table(results)
    table = Table(*shown.head, box=None)
    for number, column in enumerate(table.columns):
        column.justify = "left" if number < shown.left else "right"
    for row in shown.rows:
        table.add_row(*(f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in row))
    console.print(table)
    for sentence in sentences(results):
        console.print(sentence.text)


class Stopped(BaseException):
    """SIGTERM has come."""


def _stop(*_: object) -> NoReturn:
    raise Stopped


def main(args: Sequence[str] | None = None) -> int:
    """Run a sweep, or work on one.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code; 130 after Ctrl-C and 143 after SIGTERM, when the run has saved.
    """
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        code = run(lambda: sweep(sys.argv[1:] if args is None else args))
    except Stopped:
        code = 143
    finally:
        signal.signal(signal.SIGTERM, before)
    if code in (130, 143):
        print("\nStopped. The same command goes on.", file=sys.stderr)
    return code
