"""Ratings in SQLite: every click is on the disk before the rater is told so."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from tuner.errors import UserError, intact
from tuner.rating.study import Study

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

FILE = "ratings.sqlite"
VERSION = 1
PATIENCE = 20  # seconds to wait for another writer
SCHEMA = f"""
CREATE TABLE study (settings TEXT NOT NULL);
CREATE TABLE rating (
    rater TEXT NOT NULL,
    item TEXT NOT NULL,
    turn INTEGER NOT NULL CHECK (turn IN (1, 2)),
    kind TEXT NOT NULL CHECK (kind IN ('score', 'preference', 'comment')),
    criterion TEXT NOT NULL,
    system TEXT NOT NULL,
    other TEXT NOT NULL,
    value TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (rater, item, turn, kind, criterion, system, other),
    CHECK (kind <> 'score' OR value IN ('1', '2', '3', '4', '5')),
    CHECK (kind <> 'preference' OR value IN (system, other, ''))
) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""


@dataclass(frozen=True, kw_only=True)
class Rating:
    """One click.

    Attributes:
        rater: who.
        item: id of the example.
        turn: 1, or 2 for an item that the rater sees again.
        kind: a score of one answer, a preference between two, or a comment on the item.
        criterion: what is scored; empty for others.
        system: whose answer; of a preference the first of the pair; empty for a comment.
        other: of a preference the second of the pair; empty for others.
        value: 1 to 5; the preferred system, or nothing for a tie; the comment.
    """

    rater: str
    item: str
    turn: int
    kind: Literal["score", "preference", "comment"]
    criterion: str = ""
    system: str = ""
    other: str = ""
    value: str


class Store:
    """The ratings of one comparison, for any number of processes.

    Every call opens the file anew, writes in one short transaction and closes it: nothing is held
    that a killed process could lose or lock.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def create(self, study: Study) -> None:
        """Make the file, unless somebody has made it meanwhile.

        It is made in another place and linked to its name: a file that has the name is whole, and
        of two processes one wins.

        Raises:
            UserError: the folder cannot be written to.
        """
        try:
            with TemporaryDirectory(dir=self.path.parent, prefix=f".{FILE}.") as room:
                new = os.path.join(room, FILE)
                with closing(sqlite3.connect(new)) as database:
                    database.executescript(SCHEMA)
                    with database:
                        database.execute(
                            "INSERT INTO study VALUES (?)", [json.dumps(asdict(study))]
                        )
                if not self.path.exists():  # a journal of a file that was moved away is not ours
                    self.path.with_name(f"{FILE}-journal").unlink(missing_ok=True)
                with suppress(FileExistsError):
                    os.link(new, self.path)
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"cannot write {self.path}: {error}") from error

    def study(self) -> Study | None:
        """What these ratings are of; null where rating has not begun.

        Raises:
            UserError: the file is no ratings file of this version.
        """
        if not self.path.exists():
            return None
        with self._open() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                raise UserError(f"{self.path} has version {version}; this program knows {VERSION}")
            row = database.execute("SELECT settings FROM study").fetchone()
        with intact(self.path):
            found = json.loads(row[0])
            return Study(**found | {key: tuple(found[key]) for key in ("systems", "items")})

    def save(self, ratings: Iterable[Rating]) -> int:
        """Store ratings, all or none; the last one on the same thing counts.

        Returns:
            The number of those that were not there yet or had another value.

        Raises:
            UserError: the disk or another writer is in the way.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        changed = 0
        with self._open() as database, database:
            database.execute("BEGIN IMMEDIATE")
            for rating in ratings:
                changed += database.execute(
                    "INSERT INTO rating VALUES (:rater, :item, :turn, :kind, :criterion, :system, "
                    ":other, :value, :at) ON CONFLICT DO UPDATE SET value = excluded.value, "
                    "at = excluded.at WHERE value <> excluded.value",
                    asdict(rating) | {"at": now},
                ).rowcount
        return changed

    def ratings(self, rater: str | None = None) -> list[Rating]:
        """The stored ratings, of one rater or of all.

        Raises:
            UserError: the file cannot be read.
        """
        columns = "rater, item, turn, kind, criterion, system, other, value"
        query = f"SELECT {columns} FROM rating"
        with self._open() as database:
            if rater is None:
                found = database.execute(query).fetchall()
            else:
                found = database.execute(f"{query} WHERE rater = ?", [rater]).fetchall()
        names = columns.split(", ")
        return [Rating(**dict(zip(names, row, strict=True))) for row in found]

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        # mode=rw: a file that was moved away while the page is open is an error, not a new file.
        address = f"{self.path.absolute().as_uri()}?mode=rw"
        try:
            with closing(
                sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None)
            ) as database:
                database.execute("PRAGMA synchronous = FULL")
                yield database
        except sqlite3.Error as error:
            raise UserError(f"{self.path}: {error}") from error
