"""The command line of `eval.py`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.backbone import context_length, load_tokenizer
from tuner.data.encode import encode_header
from tuner.errors import UserError, nearest
from tuner.evaluation.answer import Decoding
from tuner.evaluation.baselines import BASELINES, shots, with_shots
from tuner.evaluation.compare import Plan, compare
from tuner.evaluation.journal import alone
from tuner.evaluation.metric import select_metrics
from tuner.evaluation.suite import load_suite
from tuner.evaluation.systems import System, find_systems
from tuner.evaluation.terminal import render_summary
from tuner.evaluation.testset import (
    TestSet,
    describe,
    draw,
    load_data,
    own_test_split,
    source_of,
    unseen,
)
from tuner.parser import Parser
from tuner.private import without_secrets
from tuner.process import run
from tuner.runs import inside

if TYPE_CHECKING:
    from tuner.data.example import Example, Message

DESCRIPTION = """Compare tuned runs with their base: same prompts, same decoding, paired statistics.

A run is named by its name (the newest finished one is taken), by name@version, or by its folder;
name@* means all finished runs of a recipe that differ in their seed alone.
"""
BATCH_SIZE = 64


def _parser() -> Parser:
    parser = Parser(prog="eval.py", description=DESCRIPTION)
    parser.add_argument("runs", nargs="+", help="names or folders of runs")
    parser.add_argument("--data", type=Path | None, default=None, help="YAML with other test data")
    parser.add_argument("--suite", type=str | None, default=None, help="curated prompts: a name")
    parser.add_argument("--limit", type=int | None, default=None, help="rows, drawn at random")
    parser.add_argument(
        "--batch_size", type=int, default=BATCH_SIZE, help="prompts answered together"
    )
    parser.add_argument("--max_new_tokens", type=int, default=256, help="tokens a reply at most")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 for greedy replies")
    parser.add_argument("--top_p", type=float, default=1.0, help="probability that is drawn from")
    parser.add_argument("--metrics", type=list[str] | None, default=None, help="all when null")
    parser.add_argument("--primary", type=str | None, default=None, help="metric that decides")
    parser.add_argument(
        "--baselines", type=list[str], default=list(BASELINES), help="what needs no training"
    )
    parser.add_argument("--few_shot", type=int, default=0, help="training rows before the prompts")
    parser.add_argument("--latency", type=int, default=8, help="prompts to take the time of")
    parser.add_argument("--output", type=Path | None, default=None, help="folder for the results")
    parser.add_argument("--seed", type=int, default=12345, help="of draws and resamples")
    parser.add_argument("--no_base", action="store_true", help="leave the base out")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of the runs")
    return parser


def _check(options: Any) -> None:
    least = {"seed": 0, "few_shot": 0, "latency": 0, "temperature": 0}
    least |= dict.fromkeys(("limit", "batch_size", "max_new_tokens"), 1)
    for key, low in least.items():
        value = getattr(options, key)
        if value is not None and not low <= value <= sys.float_info.max:
            raise UserError(f"--{key}: {value} is not allowed; give {low} or more")
    if not 0 < options.top_p <= 1:
        raise UserError(f"--top_p: {options.top_p} is not allowed; give more than 0, up to 1")
    if options.suite and options.data:
        raise UserError("--suite, --data: both name the prompts; give one")
    for name in options.baselines:
        if name not in BASELINES:
            raise UserError(f"--baselines: unknown '{name}'. {nearest(name, BASELINES)}")


def parse(args: Sequence[str] | None) -> Any:
    """The options of a comparison.

    Raises:
        UserError: an option does not fit.
    """
    options = _parser().parse_args(args)
    _check(options)
    return options


def evaluate(args: Sequence[str] | None) -> None:
    """Parse, compare, print the summary and where the report is.

    Raises:
        UserError: the runs, the data or an option do not fit.
    """
    options = parse(args)
    suite = load_suite(options.suite) if options.suite else None
    metrics = select_metrics(options.metrics)
    if suite and options.metrics is None:
        metrics |= select_metrics(suite.metrics)
    if options.primary is not None and options.primary not in metrics:
        raise UserError(
            f"--primary: unknown '{options.primary}'. {nearest(options.primary, metrics)}"
        )
    systems = find_systems(options.runs, options.logs, with_base=not options.no_base)
    tuned = [system for system in systems if system.run is not None]
    _refuse_long(tuned, options.max_new_tokens)
    tokenizer = load_tokenizer(tuned[0].base, tuned[0].revision)
    home = load_data(tuned[0].config["data"])
    prompt, left_out = home.prompt, 0
    # Curated prompts need the run's own data for the baselines alone.
    learned = options.baselines or options.few_shot or suite is None
    train = home.prepare(tokenizer).splits["train"] if learned else []
    if suite is not None:
        examples, source = list(suite.examples), f"suite {suite.name}"
    elif options.data is not None:
        other = load_data(tuned[0].config["data"], options.data)
        every = [one for rows in other.prepare(tokenizer).splits.values() for one in rows]
        prompt, source = other.prompt, source_of(other)
        known = [load_data(system.config["data"]) for system in tuned]
        examples = unseen(every, known, tokenizer)
        left_out = len(every) - len(examples)
    else:
        cards = {system.name: system.card for system in tuned}
        examples, source = own_test_split(home, tokenizer, cards), source_of(home)
    examples = draw(examples, options.limit, options.seed)
    described = describe(examples, source) | {"left_out": left_out}
    test_set = TestSet(examples, prompt, described, train)
    first = tuned[0]
    systems += [
        System(name, first.base, first.revision, None, baseline=True) for name in options.baselines
    ]
    if options.few_shot:
        systems.append(_few_shot(first, test_set, options))
    # A folder of the root: a run may be named by a path such as `..`.
    names = "-".join(options.runs).replace("/", "-").replace("*", "all").strip(".-") or "runs"
    output = options.output
    if output is None:
        output = inside(options.logs, "compare") / (f"{names}-{suite.name}" if suite else names)
        _refuse_links(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output: cannot write to {output}: {error.strerror}") from error
    plan = Plan(
        metrics=metrics,
        named=options.metrics is not None,
        primary=options.primary,
        decoding=Decoding(
            options.max_new_tokens,
            options.batch_size,
            options.temperature,
            options.top_p,
            options.seed,
        ),
        latency_prompts=options.latency,
        seed=options.seed,
        suite=suite,
        command=without_secrets(shlex.join(["eval.py", *(sys.argv[1:] if args is None else args)])),
    )
    with alone(output):
        results, rows = compare(systems, test_set, plan, output)
    print(render_summary(results, rows))
    if left_out:
        print(f"{left_out} rows were left out: a run was trained or validated on their prompts.")
    print(f"Report: {output / 'report.html'} (and report.md, results.json, predictions.jsonl)")


def _refuse_links(folder: Path) -> None:
    """Make sure that what is written under a name stays there.

    Raises:
        UserError: the folder, or something in it, is a link.
    """
    if link := next((one for one in (folder, *folder.rglob("*")) if one.is_symlink()), None):
        raise UserError(f"{link} is a link; remove it, or choose a folder with --output")


def _refuse_long(systems: Sequence[System], wanted: int) -> None:
    """Make sure that a reply of the greatest length has room in every base.

    Raises:
        UserError: it has none.
    """
    whole = [one.run is not None and one.trained.name == "model" for one in systems]
    needed = [
        (str(one.trained), None) if full else (one.base, one.revision)
        for one, full in zip(systems, whole, strict=True)
    ]
    for base, revision in dict.fromkeys(needed):
        room = context_length(base, revision)
        if room is not None and wanted >= room:
            raise UserError(
                f"--max_new_tokens: {wanted} is not allowed; '{base}' has room for {room} tokens "
                "of prompt and reply. Give less than that"
            )


def _few_shot(first: System, test_set: TestSet, options: Any) -> System:
    """The base with training rows before each prompt, as many as were asked for."""
    tokenizer = load_tokenizer(first.base, first.revision)
    room = context_length(first.base, first.revision)

    def length(example: Example, turns: Sequence[Message]) -> int:
        return len(encode_header(with_shots(example.prompt, turns), test_set.prompt, tokenizer))

    longest = max(test_set.examples, key=lambda example: length(example, ()))

    def fits(turns: Sequence[Message]) -> bool:
        return room is None or length(longest, turns) + options.max_new_tokens <= room

    turns = shots(test_set.train, options.few_shot, seed=options.seed, fits=fits)
    return System("few_shot", first.base, first.revision, first.quantize, shots=turns)


def main(args: Sequence[str] | None = None) -> int:
    """Run the comparison.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code.
    """
    return run(lambda: evaluate(args))
