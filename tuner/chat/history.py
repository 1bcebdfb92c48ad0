"""What was typed and what was said, on disk."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import UserError

if TYPE_CHECKING:
    from tuner.chat.talk import Turn

LINES = "lines"  # of all chats, oldest first
MOST_LINES = 1000  # that the arrow keys bring back


def default_folder() -> Path:
    """Where programs of this user keep such things (the XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if os.path.isabs(state) else Path("~/.local/state")) / "tuner"


class History:
    """Keeps the lines that were typed, of all chats, and a transcript of this one.

    Only the user can read the files.

    Args:
        folder: where they are; made when needed. Null keeps nothing.
        run: name of the run, part of the transcript's file name.

    Raises:
        UserError: the folder cannot be written to.
    """

    def __init__(self, folder: Path | None, run: str) -> None:
        self.folder = folder and Path(os.path.expanduser(folder))
        self.transcript: Path | None = None
        if self.folder is None:
            return
        name = f"{re.sub(r'[^A-Za-z0-9@._-]+', '-', run)}-{time.strftime('%Y%m%dT%H%M%S')}"
        self.transcript = self.folder / f"{name}-{secrets.token_hex(4)}.jsonl"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._append(LINES, "")
        except OSError as error:
            raise _not_kept(self.folder, error) from error

    def lines(self) -> list[str]:
        """The newest lines that were typed, oldest first."""
        if self.folder is None:
            return []
        text = (self.folder / LINES).read_text(encoding="utf-8", errors="replace")
        return text.splitlines()[-MOST_LINES:]

    def typed(self, line: str) -> None:
        """Keep a line.

        Raises:
            UserError: it cannot be written.
        """
        self._keep(LINES, " ".join(line.splitlines()))

    def answered(self, turn: Turn) -> None:
        """Keep a turn, as a row of the transcript.

        Raises:
            UserError: it cannot be written.
        """
        if self.transcript is None:
            return
        row: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "turn": turn.number,
            "system": turn.system,
            "message": turn.message.content,
            **asdict(turn.settings),
            "replies": [
                {
                    "name": name,
                    "text": said.text,
                    "stop_reason": said.stop_reason,
                    "new_tokens": said.new_tokens,
                    "seconds": round(said.seconds, 3),
                    "forgotten": turn.forgotten[name],
                }
                for name, said in turn.said.items()
            ],
        }
        self._keep(self.transcript.name, json.dumps(row, ensure_ascii=False))

    def _keep(self, name: str, line: str) -> None:
        if self.folder is None:
            return
        try:
            self._append(name, line + "\n")
        except OSError as error:
            raise _not_kept(self.folder, error) from error

    def _append(self, name: str, text: str) -> None:
        assert self.folder is not None
        file = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(file, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)


def _not_kept(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"--history: cannot write to {folder}: {error.strerror}; name another folder, or null to "
        "keep nothing"
    )
