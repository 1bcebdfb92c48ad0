"""`tuner plan`: memory and time of a training step before anything is loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser
from rich.console import Console
from rich.table import Table

from tuner.checks import refuse_long_rows
from tuner.errors import UserError, nearest
from tuner.hardware import find_device
from tuner.module import BASE_DTYPES
from tuner.planner import Planner, Settings, mib
from tuner.process import run
from tuner.tools.options import FitOptions

LABELS = {
    "weights": "weights of the base",
    "adapter": "trained weights",
    "gradients": "gradients",
    "optimiser": "optimiser's state",
    "activations": "activations",
    "logits": "logits and loss",
    "allocator": "freed, but kept by the C library",
    "program": "program and libraries",
}


class Plan(FitOptions):
    """Takes the options of `fit` and loads nothing."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the device and the form."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--device",
            type=str | None,
            default=None,
            help="cpu, a GPU such as A100-80GB, or its size such as 24GB; this machine's when null",
        )
        parser.add_argument("--json", action="store_true", help="print JSON, in bytes")


def plan(args: Sequence[str] | None) -> None:
    """Work the plan out and show it.

    Raises:
        UserError: an option does not fit.
    """
    cli = Plan(["fit", *(sys.argv[1:] if args is None else args)])
    options = cli.config["fit"]
    precision = str(options.trainer.precision or "32-true")
    precision = {"32": "32-true", "64": "64-true"}.get(precision, precision)
    if precision not in BASE_DTYPES:
        raise UserError(f"trainer.precision: {nearest(precision, BASE_DTYPES)}")
    if reason := cli.model.head.impossible(cli.model.settings()):
        raise UserError(reason)
    refuse_long_rows(cli.model, cli.datamodule)
    settings = Settings(
        precision,
        cli.datamodule.batch_size,
        cli.datamodule.max_length,
        options.trainer.accumulate_grad_batches,
    )
    import peft  # noqa: F401  # pyright: ignore[reportUnusedImport]  # part of the program's size

    planner = Planner(cli.model, settings, find_device(options.device, BASE_DTYPES[precision]))
    found = planner.plan()
    remedies = [] if found["fits"] else planner.remedies()
    if options.json:
        json.dump({**found, "remedies": remedies}, sys.stdout)
        print()
        return
    _print(found, remedies, settings)


def _print(found: dict[str, Any], remedies: list[str], settings: Settings) -> None:
    console = Console(highlight=False)
    table = Table("part", "", box=None)
    table.columns[1].justify = "right"
    on_gpu = found["device"] != "cpu"
    labels = LABELS | ({"program": "CUDA's context (assumed)"} if on_gpu else {})
    for part, size in found["parts"].items():
        if size:
            table.add_row(labels[part], mib(size))
    table.add_row("[bold]peak[/bold]", f"[bold]{mib(found['peak'])}[/bold]")
    console.print(
        f"A step with batches of {settings.batch_size} x {settings.max_length} tokens in "
        f"{settings.precision} on {found['device']}, which has {mib(found['memory'])}:"
    )
    console.print(table)
    if found["seconds_per_step"]:
        console.print(
            f"about {found['seconds_per_step']:,.2g} s a step of {settings.accumulate} batches, "
            f"{found['tokens_per_second']:,.0f} tokens/s: an estimate from {found['basis']}"
        )
    else:
        console.print("time: not estimated for this device and precision")
    if largest := found["largest_batch"]:
        console.print(f"largest batch that fits: {largest}, every row as long as data.max_length")
    if found["fits"]:
        return
    console.print("[yellow]does not fit[/yellow]. These would:")
    for remedy in remedies or ["none of the changes known here; choose a smaller base"]:
        console.print(f"  {remedy}")


def main(args: Sequence[str] | None = None) -> int:
    """Show what a training step takes.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code.
    """
    return run(lambda: plan(args))
