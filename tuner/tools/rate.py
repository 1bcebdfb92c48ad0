"""`tuner rate`: people rate the answers of a comparison, blind."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuner.errors import UserError
from tuner.parser import Parser
from tuner.process import run
from tuner.rating.desk import Desk
from tuner.rating.items import rater_name
from tuner.rating.sheet import read_sheet, write_sheet
from tuner.rating.store import Store
from tuner.rating.study import (
    SEED,
    Answers,
    Study,
    draw_study,
    find_comparison,
    read_answers,
    read_rubric,
    still_fits,
)

DESCRIPTION = """Rate the answers of a comparison on a page of this machine, or in a CSV sheet.

Raters do not see which system wrote what. Ratings are stored in ratings.sqlite in the comparison's
folder. What is rated is fixed when rating begins: later calls need no options.
"""


def _parser() -> Parser:
    parser = Parser(prog="tuner rate", description=DESCRIPTION)
    parser.add_argument("comparison", help="name or folder of a comparison")
    parser.add_argument(
        "--systems", type=str, nargs="+", default=None, help="2 to 4; all when null"
    )
    parser.add_argument("--items", type=int | None, default=None, help="prompts, drawn at random")
    parser.add_argument(
        "--repeats", type=int | None, default=None, help="prompts that a rater sees twice; 0"
    )
    parser.add_argument(
        "--seed", type=int | None, default=None, help=f"of the draw and of all orders; {SEED}"
    )
    parser.add_argument("--host", type=str, default="127.0.0.1", help="where the page listens")
    parser.add_argument("--port", type=int, default=8642, help="0 takes any that is free")
    parser.add_argument("--no_browser", action="store_true", help="open no browser")
    parser.add_argument(
        "--export", type=Path | None, default=None, help="write a sheet for --rater and stop"
    )
    parser.add_argument("--rater", type=str | None, default=None, help="whose sheet to export")
    parser.add_argument(
        "--import", type=Path | None, default=None, help="read a filled-in sheet and stop"
    )
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of the runs")
    return parser


def rate(args: Sequence[str] | None) -> None:
    """Write or read a sheet, or serve the page until it is stopped.

    Raises:
        UserError: an option, the comparison, a sheet or the stored ratings do not fit.
    """
    options = _parser().parse_args(args)
    sheet = options["import"]
    _check(options, sheet)
    folder = find_comparison(options.comparison, options.logs)
    answers = read_answers(folder)
    store = Store(folder)
    study = begin(folder, answers, store, options)
    if options.export:
        count = write_sheet(options.export, Desk(study, answers, store, rater_name(options.rater)))
        print(f"Sheet: {options.export}, {count} items. Read it back with --import.")
    elif sheet:
        ratings = read_sheet(sheet, study, answers, store)
        changed = store.save(ratings)
        print(f"Sheet: {len(ratings)} values read, {changed} of them new or changed.")
    else:
        _serve(study, answers, store, options)


def _check(options: Any, sheet: Path | None) -> None:
    for key, least in (("items", 1), ("repeats", 0), ("seed", 0), ("port", 0)):
        given = options[key]
        if given is not None and given < least:
            raise UserError(f"--{key}: {given} is not allowed; give {least} or more")
    if options.export and sheet:
        raise UserError("--export, --import: choose one of them")
    if bool(options.export) != bool(options.rater):
        raise UserError("--export, --rater: a sheet is for one rater; give both or neither")


def begin(folder: Path, answers: Answers, store: Store, options: Any) -> Study:
    """The study of this comparison: the one that was begun, or a new one.

    Args:
        folder: of the comparison.
        answers: its texts.
        store: where ratings are.
        options: `systems`, `items`, `repeats` and `seed`; null where nothing was said.

    Returns:
        The study, which is stored now.

    Raises:
        UserError: the study that was begun has other answers, or differs from the options.
    """
    study = store.study()
    if study is None:
        store.create(
            draw_study(
                answers,
                read_rubric(folder),
                systems=options.systems,
                items=options["items"],  # a namespace has a method of that name
                repeats=options.repeats or 0,
                seed=SEED if options.seed is None else options.seed,
            )
        )
        study = store.study()
        assert study is not None
    anew = f"To begin anew, move {store.path} away."
    if not still_fits(study, answers):
        raise UserError(f"{store.path} holds ratings of other answers than there are now. {anew}")
    begun = {
        "systems": sorted(study.systems),
        "items": len(study.items),
        "repeats": study.repeats,
        "seed": study.seed,
    }
    for key, value in begun.items():
        wanted = sorted(options[key]) if key == "systems" and options[key] else options[key]
        if wanted not in (None, value):
            raise UserError(f"--{key}: rating was begun with {value}, not {wanted}. {anew}")
    return study


def _serve(study: Study, answers: Answers, store: Store, options: Any) -> None:
    from tuner.rating.app import build_app
    from tuner.server import address, can_show, listen, new_password, serve, tell

    taken = listen(options.host, options.port)
    password = new_password(options.host)
    where = address(options.host, taken)
    print(f"Rate at {where} ({len(study.items)} prompts); Ctrl+C ends. Stored in {store.path}")
    if password is not None:
        tell(password, options.host)
    sys.stdout.flush()
    if not options.no_browser and can_show():
        webbrowser.open(where)
    serve(build_app(study, answers, store, options.host, password), taken)


def main(args: Sequence[str] | None = None) -> int:
    """Let people rate.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code.
    """
    return run(lambda: rate(args))
