"""Work in processes of their own: with other rights, on other disks, and killed."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Child:
    """A forked process, which need not import everything anew, and what it has said."""

    process: Any
    output: Path

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = 240) -> int:
        """Its exit code."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"it hangs; so far it said:\n{self.said}"
        return self.process.exitcode


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Starts work in a child; what it returns is the exit code, an exception is code 1."""
    running: list[Child] = []

    def run(work: Callable[[], int | None], output: Path) -> None:
        os.setsid()
        with output.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        with open(1, "w", closefd=False) as sys.stdout, open(2, "w", closefd=False) as sys.stderr:
            try:
                code = work() or 0
            except BaseException:
                traceback.print_exc()
                code = 1
        os._exit(code)

    def start(work: Callable[[], int | None]) -> Child:
        output = tmp_path / f"child-{len(running)}.txt"
        process: Any = multiprocessing.get_context("fork").Process(target=run, args=(work, output))
        process.start()
        running.append(Child(process, output))
        return running[-1]

    yield start
    for one in running:
        one.process.kill()
        one.process.join()


def one_message(said: str) -> str:
    """The one error that was told, without a traceback."""
    assert "Traceback" not in said, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    return errors[0].removeprefix("error: ")
