"""What a comparison has found out so far, so that one that was killed goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from tuner.data.example import digest
from tuner.errors import UserError
from tuner.hold import LOCK

T = TypeVar("T")

PREFIX = ".answers-"


class Journal:
    """Findings by name in a file of JSON lines, each written as soon as it is there.

    A line that a kill has cut or a disk has changed is taken away, with all that stands behind it.

    Args:
        folder: of the comparison.
        key: everything that shapes the findings, as a JSON value; other keys have other files.

    Attributes:
        found: the findings so far.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path, key: object) -> None:
        self.found: dict[str, Any] = {}
        # Every line goes to the system at once: it stays when this process is killed.
        self._file = (folder / f"{PREFIX}{digest(key)}.jsonl").open("a+b", buffering=0)
        self._file.seek(0)
        whole = 0
        for line in self._file.read().splitlines(keepends=True):
            try:
                name, value, written = json.loads(line)
                if written != digest([name, value]) or not line.endswith(b"\n"):
                    break
            except (TypeError, ValueError, RecursionError):
                break
            self.found[name] = value
            whole += len(line)
        self._file.truncate(whole)

    def put(self, name: str, value: object) -> None:
        """Write down a finding: any JSON value."""
        self.found[name] = value
        line = json.dumps([name, value, digest([name, value])])
        self._file.write(line.encode("ascii") + b"\n")

    def once(self, name: str, work: Callable[[], T]) -> T:
        """The finding of that name, worked out where it is not there yet."""
        if name not in self.found:
            self.put(name, work())
        return self.found[name]

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()


@contextmanager
def alone(folder: Path) -> Generator[None]:
    """Keep other processes from writing to a comparison, and from its journals, for a while.

    Raises:
        UserError: one of them does.
    """
    try:
        held = FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{folder}: another process is writing this comparison. Wait for it or stop it first, "
            "or give the new one another folder with --output"
        ) from error
    with held:
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Delete what comparisons in a folder, finished or given up, have left of their journals."""
    for file in folder.glob(f"{PREFIX}*.jsonl"):
        file.unlink(missing_ok=True)
