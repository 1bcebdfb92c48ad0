"""A command in this process, as a person would see it: its exit code and what it says."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any
from unittest.mock import patch

# What the parser prints of its own, and the most lines that a message may have.
DUMPS = ("Does not validate", "Union subtypes", "NoneType", "Parser key")
LINES = 3


def said(main: Callable[[list[str]], int], *args: object, program: str = "tuner") -> str:
    """Run a command with nothing to read; it ends with 0, or with 2 and one short message.

    Returns:
        The message; empty where the command did what it was asked to.
    """
    words = [str(arg) for arg in args]
    errors, output = io.StringIO(), io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    code: Any
    with (
        patch.object(sys, "argv", [program, *words]),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(), encoding="utf-8")),
        redirect_stderr(errors),
        redirect_stdout(output),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            code = main(words)
        except SystemExit as stop:  # --help ends so
            code = stop.code or 0
        output.flush()
    text = errors.getvalue()
    assert code in (0, 2), f"exit code {code}: {text[-500:]}"
    assert "Traceback" not in text
    messages = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(messages) == (code == 2), f"exit code {code} with {messages}"
    message = text.partition("error: ")[2] if code else ""
    assert len(message.splitlines()) <= LINES, message
    assert not [dump for dump in DUMPS if dump in message], message
    return message
