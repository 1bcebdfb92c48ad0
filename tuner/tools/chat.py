"""`tuner chat`: talk to a run, and to its base beside it."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from tuner.chat.history import History, default_folder
from tuner.chat.settings import Settings
from tuner.chat.speaker import Speaker
from tuner.chat.talk import Talk
from tuner.chat.terminal import Terminal
from tuner.errors import UserError
from tuner.evaluation.systems import System, find_systems
from tuner.parser import Parser
from tuner.process import run

DESCRIPTION = """Talk to a run in the terminal, or on a page of this machine.

Prompts are rendered as in training. A run is named by its name (the newest finished one is taken),
by name@version, or by its folder. Through a pipe, each line is answered.
"""
HELP = {
    "temperature": "0 for greedy replies",
    "top_p": "probability that is drawn from",
    "max_new_tokens": "tokens a reply at most",
    "seed": "of the draws",
}


def _parser() -> Parser:
    parser = Parser(prog="tuner chat", description=DESCRIPTION)
    parser.add_argument("run", help="name or folder of a run")
    parser.add_argument("--compare", action="store_true", help="ask the base as well")
    parser.add_argument(
        "--system", type=str | None, default=None, help="system prompt; the run's own when null"
    )
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=HELP[name])
    parser.add_argument(
        "--dtype",
        type=Literal["float32", "bfloat16", "float16"],
        default="float32",
        help="of the weights; eval.py compares in float32",
    )
    parser.add_argument(
        "--history",
        type=Path | None,
        default=default_folder(),
        help="folder of transcripts and typed lines; null keeps nothing",
    )
    parser.add_argument("--web", action="store_true", help="open a page instead (extra: web)")
    parser.add_argument("--host", type=str, default="127.0.0.1", help="where the page listens")
    parser.add_argument("--port", type=int, default=8643, help="0 takes any that is free")
    parser.add_argument("--no_browser", action="store_true", help="open no browser")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of the runs")
    return parser


def chat(args: Sequence[str] | None) -> None:
    """Load the models and talk until the person leaves.

    Raises:
        UserError: the run, an option or the address does not fit.
    """
    options = _parser().parse_args(args)
    settings = Settings(**{one.name: options[one.name] for one in fields(Settings)})
    systems = find_systems([options.run], options.logs, with_base=options.compare)
    if sum(system.run is not None for system in systems) > 1:
        raise UserError(f"{options.run} names several runs; name one of them, such as lora@2")
    history = History(options.history, systems[-1].name)
    if options.web:
        _serve(systems, settings, options)
        return
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(errors="replace")  # pyright: ignore  # whatever bytes come in or go out
    Terminal(Talk(_speaker(systems, options), settings, options.system), history).run()


def _speaker(systems: list[System], options: Any) -> Speaker:
    tuned = systems[-1]
    print(f"Loading {tuned.name} ({tuned.head} on {tuned.base})", file=sys.stderr)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Speaker(systems, getattr(torch, options.dtype), device)


def _serve(systems: list[System], settings: Settings, options: Any) -> None:
    if find_spec("gradio") is None:
        raise UserError("--web needs Gradio, which is missing: pip install -e '.[web]'")
    from tuner.chat.page import Visit, build_app
    from tuner.server import address, can_show, listen, new_password, serve, tell

    taken = listen(options.host, options.port)
    password = new_password(options.host)
    speaker = _speaker(systems, options)

    def begin() -> Visit:
        talk = Talk(speaker, settings, options.system)
        return Visit(talk, History(options.history, systems[-1].name))

    app = build_app(begin, options.host, password)
    where = address(options.host, taken)
    print(f"Chat at {where}; Ctrl+C ends", flush=True)
    if password is not None:
        tell(password, options.host)
    if not options.no_browser and can_show():
        webbrowser.open(where)
    serve(app, taken)


def main(args: Sequence[str] | None = None) -> int:
    """Talk.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code.
    """
    return run(lambda: chat(args))
