"""`tuner report`: the reports of a comparison once more, with the ratings that have come in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuner.errors import UserError, intact
from tuner.evaluation.compare import write_reports
from tuner.evaluation.journal import alone
from tuner.evaluation.predictions import read_predictions
from tuner.evaluation.reading import check_predictions, read_results
from tuner.parser import Parser
from tuner.process import run
from tuner.rating.study import find_comparison

DESCRIPTION = """Write results.json and the reports of a comparison anew, with people's ratings.

Nothing is generated or scored again.
"""


def _parser() -> Parser:
    parser = Parser(prog="tuner report", description=DESCRIPTION)
    parser.add_argument("comparison", help="name or folder of a comparison")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of the runs")
    return parser


def report(args: Sequence[str] | None) -> None:
    """Parse, read, write.

    Raises:
        UserError: there is no such comparison, or its files do not fit each other.
    """
    options = _parser().parse_args(args)
    folder = find_comparison(options.comparison, options.logs)
    with alone(folder):
        _write(folder)
    print(f"Report: {folder / 'report.html'} (and report.md, results.json)")


def _write(folder: Path) -> None:
    results = read_results(folder)
    check_predictions(folder, results)
    predictions = folder / "predictions.jsonl"
    try:
        with intact(predictions):
            rows = read_predictions(predictions)
    except OSError as error:
        raise UserError(f"{folder}: cannot read the comparison: {error}") from error
    with intact(f"{folder / 'results.json'}, predictions.jsonl"):  # whatever reports look for
        write_reports(folder, results, rows)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code.
    """
    return run(lambda: report(args))
