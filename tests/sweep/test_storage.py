"""A database takes one claim at a time, and nothing that logs into it is shown."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tuner.errors import UserError
from tuner.sweep.storage import explained, open_storage, shown, sqlite_url

SECRET = "postgresql+psycopg2://ann:canary@db.example:5432/sweeps?sslpassword=canary2"


def test_a_login_is_not_shown() -> None:
    assert shown(SECRET) == "postgresql+psycopg2://db.example:5432/sweeps"
    assert shown("sqlite:////home/a@b@c/x").startswith("sqlite:////home/a")


@pytest.mark.parametrize(
    "url",
    [
        "canary://x:y",
        "no address with canary in it",
        "postgresql://ann:x@y:canary@db.example/sweeps",
        "postgresql://ann:x@canary/y@db.example/sweeps",
        "postgresql://ann:x@canary?y@db.example/sweeps",
    ],
)
def test_what_is_no_address_is_not_shown_at_all(url: str) -> None:
    for use in (shown, open_storage):
        with pytest.raises(UserError, match="an @ as %40") as caught:
            use(url)
        assert "canary" not in str(caught.value)
        assert caught.value.__context__ is None


def test_what_a_database_says_is_shown_without_the_login() -> None:
    said = OperationalError("SELECT 1", {}, Exception(f"no ann at {SECRET}, nor canary2 / canary"))
    with pytest.raises(UserError) as caught, explained(SECRET):
        raise said
    assert str(caught.value).startswith("--storage: postgresql+psycopg2://db.example:5432/sweeps:")
    assert "canary" not in str(caught.value)
    assert "ann" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [SECRET, "nothing", "nobody://ann:canary@host/x", "sqlite:////nothere/x.db"],
)
def test_a_database_that_cannot_be_opened(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.sweep.storage.ATTEMPTS", 1)
    with pytest.raises(UserError, match="--storage") as caught:
        open_storage(url)
    assert "canary" not in str(caught.value)


def test_a_database_of_a_newer_optuna_is_refused(tables: Path, tmp_path: Path) -> None:
    url = sqlite_url(Path(shutil.copy(tables, tmp_path)))
    with create_engine(url).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v99.0.0.a'"))
        connection.execute(text("UPDATE version_info SET schema_version = 99"))
    with pytest.raises(UserError, match=r"--storage: .*The runtime optuna version"):
        open_storage(url)


def test_a_transaction_of_sqlite_waits_for_the_one_before(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "a b?#.sqlite")
    storage = open_storage(url)
    assert (tmp_path / "a b?#.sqlite").is_file()
    reads: list[float] = []
    with storage.engine.begin():  # nothing but the beginning of a transaction
        other = threading.Thread(target=lambda: reads.append(_read(url)))
        other.start()
        time.sleep(0.3)
        assert not reads
        released = time.monotonic()
    other.join()
    assert reads[0] >= released


def _read(url: str) -> float:
    with open_storage(url).engine.begin() as connection:
        connection.execute(text("SELECT count(*) FROM trials"))
    return time.monotonic()


def test_workers_that_come_together_make_the_tables_once(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "new.sqlite")
    failed: list[BaseException] = []

    def connect() -> None:
        try:
            open_storage(url)
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=connect) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed
    with create_engine(url).begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM version_info")).scalar() == 1
