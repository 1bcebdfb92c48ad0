"""`tuner completion`: a script with which a shell completes commands, options and their values."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, Literal

from jsonargparse import capture_parser

from tuner.__main__ import COMMANDS
from tuner.parser import Parser
from tuner.process import run

DESCRIPTION = """Print a script with which the shell completes `tuner`.

    mkdir -p ~/.local/share/bash-completion/completions
    tuner completion bash > ~/.local/share/bash-completion/completions/tuner

To be done anew after an update. zsh: a file named _tuner in a folder of $fpath.
"""


def _parser() -> Parser:
    parser = Parser(prog="tuner completion", description=DESCRIPTION)
    parser.add_argument("shell", type=Literal["bash", "zsh"], help="which shell")
    return parser


def completion(args: Sequence[str] | None) -> None:
    """Collect the parsers of all commands and print the script."""
    shell = _parser().parse_args(args).shell
    whole = Parser(prog="tuner")
    commands = whole.add_subcommands()
    for name, _, module, does in COMMANDS:
        commands.add_subcommand(name, _parser_of(module, name), help=does)
    print(whole.get_completion_script(f"shtab-{shell}"))


def _parser_of(module: str, command: str) -> Parser:
    """The parser of a command; preview and plan have that of `fit` inside theirs."""
    found = _captured(module)
    action = found._subcommands_action  # pyright: ignore[reportPrivateUsage]  # there is no other way
    if action is None:
        return found
    inner: Any = action.choices
    return inner.get(command, inner["fit"])


@cache
def _captured(module: str) -> Parser:
    argv, sys.argv = sys.argv, sys.argv[:1]  # nothing of this command line is for them
    try:
        return capture_parser(import_module(module).main, [])  # pyright: ignore
    finally:
        sys.argv = argv


def main(args: Sequence[str] | None = None) -> int:
    """Print the script.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code.
    """
    return run(lambda: completion(args))
