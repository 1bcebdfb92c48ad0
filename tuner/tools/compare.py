"""The command line of `eval.py`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tuner.backbone import load_tokenizer
from tuner.errors import UserError
from tuner.evaluation.compare import Decoding, compare
from tuner.evaluation.metric import select_metrics
from tuner.evaluation.systems import find_systems
from tuner.evaluation.terminal import render_summary
from tuner.evaluation.testset import choose, load_data, own_test_split
from tuner.parser import Parser
from tuner.process import run

DESCRIPTION = """Compare tuned runs with their base: same prompts, same decoding, paired statistics.

A run is named by its name (the newest finished one is taken) or by its folder.
"""


def _parser() -> Parser:
    parser = Parser(prog="eval.py", description=DESCRIPTION)
    parser.add_argument("runs", nargs="+", help="names or folders of runs")
    parser.add_argument("--data", type=Path | None, default=None, help="YAML with other test data")
    parser.add_argument("--limit", type=int | None, default=None, help="rows, drawn at random")
    parser.add_argument("--batch_size", type=int, default=32, help="prompts answered together")
    parser.add_argument("--max_new_tokens", type=int, default=256, help="tokens a reply at most")
    parser.add_argument("--metrics", type=list[str] | None, default=None, help="all when null")
    parser.add_argument("--output", type=Path | None, default=None, help="folder for the results")
    parser.add_argument("--seed", type=int, default=12345, help="of draws and resamples")
    parser.add_argument("--no_base", action="store_true", help="leave the base out")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of the runs")
    return parser


def evaluate(args: Sequence[str] | None) -> None:
    """Parse, compare, print the summary and where the report is.

    Raises:
        UserError: the runs, the data or an option do not fit.
    """
    options = _parser().parse_args(args)
    if options.seed < 0:
        raise UserError(f"--seed: {options.seed} is not allowed; give 0 or more")
    for key in ("limit", "batch_size", "max_new_tokens"):
        if getattr(options, key) is not None and getattr(options, key) < 1:
            raise UserError(f"--{key}: {getattr(options, key)} is not allowed; give 1 or more")
    metrics = select_metrics(options.metrics)
    systems = find_systems(options.runs, options.logs, with_base=not options.no_base)
    tuned = [system for system in systems if system.run is not None]
    data = load_data(tuned[0].config["data"], options.data)
    tokenizer = load_tokenizer(tuned[0].base, tuned[0].revision)
    if options.data is None:
        examples = own_test_split(data, tokenizer, {system.name: system.card for system in tuned})
    else:
        splits = data.prepare(tokenizer).splits
        examples = [example for split in splits.values() for example in split]
    names = "-".join(system.name.replace("/", "-") for system in tuned)
    output = options.output or options.logs / "compare" / names
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output: cannot write to {output}: {error.strerror}") from error
    results, rows = compare(
        systems,
        choose(examples, data, options.limit, options.seed),
        metrics,
        Decoding(options.max_new_tokens, options.batch_size),
        seed=options.seed,
        command=shlex.join(["eval.py", *(sys.argv[1:] if args is None else args)]),
        output=output,
    )
    print(render_summary(results, rows))
    print(f"Report: {output / 'report.md'} (and report.html, results.json, predictions.jsonl)")


def main(args: Sequence[str] | None = None) -> int:
    """Run the comparison.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code.
    """
    return run(lambda: evaluate(args))
