"""Where a study is stored: a database that any number of workers write to."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import URL, Engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from tuner.errors import UserError

PATIENCE = 60  # seconds to wait for another writer of an SQLite file
ATTEMPTS = 5  # to make the tables, while others make them


def open_storage(url: str) -> RDBStorage:
    """Connect to a database, whose tables are made where they are missing.

    Args:
        url: as SQLAlchemy has it.

    Raises:
        UserError: it is no address, its driver is missing, nothing answers, or another version of
            Optuna has made its tables.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sqlite = _parse(url).get_backend_name() == "sqlite"
    with explained(url, ImportError, ValueError, RuntimeError):
        # A server may close a connection that nobody used for hours.
        settings: dict[str, Any] = {"pool_pre_ping": True}
        if sqlite:
            settings = {"connect_args": {"timeout": PATIENCE}}
        for left in reversed(range(ATTEMPTS)):
            try:
                storage = RDBStorage(url, engine_kwargs=settings)
            except (SQLAlchemyError, StorageInternalError):
                if left == 0:
                    raise
                time.sleep(0.5)
                continue
            if sqlite:
                _lock_first(storage.engine)
            return storage
    raise AssertionError


def _lock_first(engine: Engine) -> None:
    """Let every transaction of an SQLite file take the lock when it begins.

    By default it takes it at its first change: two workers could read that a trial waits before
    one of them says that it has it. `SELECT ... FOR UPDATE`, which does this in other databases,
    means nothing to SQLite.
    """

    @event.listens_for(engine, "connect")
    def manual(connection: Any, _: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.isolation_level = None  # the module's own transactions begin too late

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections from before


def sqlite_url(file: Path) -> str:
    """The address of a file."""
    return URL.create("sqlite", database=str(file)).render_as_string()


def shown(url: str) -> str:
    """An address as it may be printed and written: without who logs in, and how.

    Raises:
        UserError: it is no address.
    """
    of = _parse(url)
    bare = URL.create(of.drivername, host=of.host, port=of.port, database=of.database)
    return bare.render_as_string()


def _parse(url: str) -> URL:
    """Take an address apart; no message may hold it, as a login could be anywhere in it."""
    with suppress(ArgumentError, ValueError):
        parts = make_url(url)
        # The end of a password with an @ would be taken for the name of the machine.
        if url.count("@") < 2 or parts.get_backend_name() == "sqlite":
            return parts
    raise UserError(
        "--storage: this is no address of a database, such as postgresql://user@machine/name. "
        "Special characters of a login are written as %XX, an @ as %40"
    )


@contextmanager
def explained(url: str, *more: type[Exception]) -> Generator[None]:
    """Turn what a database says into a message that holds no password.

    Args:
        url: of the database.
        more: further errors that are about the address.

    Raises:
        UserError: the database said something.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, *more) as error:
        cause = error.__cause__ or error
        said = str(getattr(cause, "orig", None) or cause).strip().splitlines()
        reason = _without_secrets(said[0], url) if said else type(cause).__name__
        # What the libraries raised may hold the address: not even a traceback shows it.
        raise UserError(f"--storage: {shown(url)}: {reason}") from None


def _without_secrets(text: str, url: str) -> str:
    parts = _parse(url)
    secrets = [url, url.partition("://")[2].rpartition("@")[0]]
    secrets += [parts.username or "", str(parts.password or "")]
    secrets += [value for values in parts.normalized_query.values() for value in values]
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text
