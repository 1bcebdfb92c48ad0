"""The mark of a process on a folder that it writes to, which goes when the process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tuner.errors import UserError

LOCK = ".lock"


class Hold:
    """Marks a run as being written to, until it is closed.

    The mark is a lock of this process on a file in the run's folder: it goes when the process
    ends, however that happens.

    Args:
        folder: of the run.

    Raises:
        UserError: another process writes to the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._file = (folder / LOCK).open("w", encoding="utf-8")
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: another process is training this run. Wait for it or stop it first; "
                "SIGTERM lets it save and exit"
            ) from error

    def check(self) -> None:
        """Make sure that the folder is still the one that was marked.

        Raises:
            UserError: it was removed; another run may have taken its name since.
        """
        try:
            same = os.path.samestat(os.fstat(self._file.fileno()), (self.folder / LOCK).stat())
        except FileNotFoundError:
            same = False
        if not same:
            raise UserError(
                f"{self.folder}: the folder of this run was removed while it was being written"
            )

    def close(self) -> None:
        """Let go of the run."""
        self._file.close()


def is_held(folder: Path) -> bool:
    """Whether another process writes to a run that has a run.json.

    Not to be asked by the process that does: it would lose its hold.
    """
    try:
        with (folder / LOCK).open("r+", encoding="utf-8") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or not ours to write
        return False
    return False
