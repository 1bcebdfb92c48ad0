"""Ratings in SQLite: every click is on the disk before the rater is told so."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from tuner.errors import UserError, intact
from tuner.rating.study import Study

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

FILE = "ratings.sqlite"
VERSION = 1
PATIENCE = 20  # seconds to wait for another writer
SCHEMA = (
    "CREATE TABLE study (settings TEXT NOT NULL)",
    """CREATE TABLE rating (
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
    ) WITHOUT ROWID""",
    f"PRAGMA user_version = {VERSION}",
)


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

        All of it comes in one transaction: a process that is killed leaves an empty file, which
        the next one fills, and of two processes one wins.

        Raises:
            UserError: the folder cannot be written to.
        """
        with self._open("rwc") as database, database:
            database.execute("BEGIN IMMEDIATE")
            if not _version(database):
                for statement in SCHEMA:
                    database.execute(statement)
                database.execute("INSERT INTO study VALUES (?)", [json.dumps(asdict(study))])

    def study(self) -> Study | None:
        """What these ratings are of; null where rating has not begun.

        Raises:
            UserError: the file is no ratings file of this version.
        """
        if not self.path.exists():
            return None
        with self._open() as database:
            version = _version(database)
            if not version and not database.execute("SELECT 1 FROM sqlite_schema").fetchone():
                return None  # killed before it had begun
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
    def _open(self, mode: str = "rw") -> Generator[sqlite3.Connection]:
        # rw: a file that was moved away while the page is open is an error, not a new file.
        if self.path.is_symlink():  # ratings stay in the folder of their comparison
            raise UserError(f"{self.path} is a link; put the file itself there, or remove it")
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            with closing(
                sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None)
            ) as database:
                database.execute("PRAGMA synchronous = FULL")
                yield database
        except sqlite3.Error as error:
            raise UserError(f"{self.path}: {error}") from error


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return version
