"""`tuner export`: a run in the form that other tools load."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuner.errors import UserError, intact
from tuner.evaluation.systems import System, find_system
from tuner.parser import Parser
from tuner.process import exit_on_sigterm, run
from tuner.release.write import Dtype, Form, refuse_form, release
from tuner.runs import read_record

DESCRIPTION = """Write a run as other tools load it: one merged model, or the adapter.

With tokenizer, chat template, generation settings and a model card; beside a merged model a
Modelfile for Ollama. What was written is compared with the model of the run before the folder
gets its name.
"""
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
MIB = 2**20


def _parser() -> Parser:
    parser = Parser(prog="tuner export", description=DESCRIPTION)
    parser.add_argument("run", help="name, name@version or folder of a run")
    parser.add_argument("--to", type=Path, required=True, help="the folder to make")
    parser.add_argument("--form", type=Form, default="merged", help="one model, or the adapter")
    parser.add_argument(
        "--dtype", type=Dtype | None, default=None, help="type of merged weights; bfloat16"
    )
    parser.add_argument(
        "--force", action="store_true", help="take an export that differs from the run"
    )
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of the runs")
    return parser


def type_of(options: Any) -> Dtype:
    """The type of merged weights that was asked for.

    Raises:
        UserError: one was asked for where nothing is merged.
    """
    if options.dtype and options.form == "adapter":
        raise UserError("--dtype, --form: an adapter keeps its type; leave --dtype out")
    return options.dtype or "bfloat16"


def announce(system: System, form: Form, dtype: Dtype) -> None:
    """Say what a merged model takes, before the work.

    Raises:
        UserError: the run has no such form.
    """
    refuse_form(system, form)
    if form == "merged":
        assert system.run is not None
        with intact(system.run / "run.json"):
            weights = int(read_record(system.run)["total_params"])
        live, written = 4 * weights / MIB, BYTES[dtype] * weights / MIB
        print(
            f"The weights take {live:,.0f} MiB of memory and {written:,.0f} MiB on the disk.",
            flush=True,
        )


def export(args: Sequence[str] | None) -> None:
    """Parse, write, say how far it is from the run.

    Raises:
        UserError: the run, an option or the folder does not fit.
    """
    options = _parser().parse_args(args)
    dtype = type_of(options)
    system = find_system(options.run, options.logs)
    announce(system, options.form, dtype)
    with exit_on_sigterm():
        check, chat = release(
            system,
            options.to,
            form=options.form,
            dtype=dtype,
            logs=options.logs,
            force=options.force,
        )
    print(f"Checked: {check}.")
    if not chat:
        print(
            "warning: no chat template writes prompts as the run reads them, so there is none; "
            "prompt.json shows how they are written",
            file=sys.stderr,
        )
    print(f"Export: {options.to} (README.md says how to load it)")


def main(args: Sequence[str] | None = None) -> int:
    """Export a run.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code.
    """
    return run(lambda: export(args))
