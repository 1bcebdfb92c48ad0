"""Who has which trial: a claim is made in a transaction that holds the study.

So no two workers have the same trial. A claim that is not renewed, or whose worker is known to be
gone, is free again.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from optuna.storages._rdb import models as optuna_models  # pyright: ignore[reportPrivateUsage]
from optuna.trial import TrialState
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from tuner.errors import UserError
from tuner.hold import Hold, is_held

STALE = 90  # seconds without a sign of life, after which a worker is taken for dead
WORKER = "worker"  # user attribute of a trial

models: Any = optuna_models  # their columns have no types


class Row(Protocol):
    """What is used of a trial in Optuna's tables."""

    trial_id: int
    number: int
    state: TrialState
    datetime_start: datetime | None
    user_attributes: list[Any]
    heartbeats: list[Any]


Rows = Sequence[Row]


class Claims:
    """The claims of one worker on the trials of a study.

    Args:
        engine: of the database.
        study: its number in the database.
        folder: where workers of this machine leave a lock, by which others know that they live.
    """

    def __init__(self, engine: Engine, study: int, folder: Path) -> None:
        self._engine, self._study, self._folder = engine, study, folder
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        with self._alone() as session:  # or another could take it for dead before it has its lock
            self._forget_the_dead(session)
            (folder / self.worker).mkdir(parents=True)
            self._hold = Hold(folder / self.worker)

    def take(self, choose: Callable[[Rows, set[int]], int | None]) -> tuple[int, int] | None:
        """Claim a trial.

        Args:
            choose: takes all trials and the numbers of those that are free; says which of them is
                to be claimed, if any.

        Returns:
            Its number in the study and its number in the database.
        """
        with self._alone() as session:
            rows, now = self._rows(session), _now(session)
            chosen = choose(rows, {row.number for row in rows if self._is_free(row, now)})
            if chosen is None:
                return None
            row = rows[chosen]
            row.state = TrialState.RUNNING
            row.datetime_start = datetime.now()
            _sign(row, now)
            write(row, WORKER, self.worker)
            return row.number, row.trial_id

    def renew(self, trial: int) -> bool:
        """Give a sign of life.

        Args:
            trial: its number in the database.

        Returns:
            Whether the trial is still this worker's.
        """
        with self._alone() as session:
            row = session.get_one(models.TrialModel, trial)
            own = _runs(row) and _read(row, WORKER) == self.worker
            if own:
                _sign(row, _now(session))
            return own

    def release(self) -> None:
        """Let what this worker has wait once more."""
        with self._alone() as session:
            self._release(session)

    def close(self) -> None:
        """Let go of everything, and remove what workers have left that were killed meanwhile."""
        with self._alone() as session:
            self._release(session)
            self._forget_the_dead(session)
        self._hold.close()
        shutil.rmtree(self._folder / self.worker, ignore_errors=True)

    def _is_free(self, row: Row, now: datetime) -> bool:
        if not _runs(row):
            return row.state == TrialState.WAITING
        signs = [sign.heartbeat for sign in row.heartbeats]
        # One of the future was given before the clock was put back.
        return not signs or abs(now - signs[0]) > timedelta(seconds=STALE) or self._is_gone(row)

    def _is_gone(self, row: Row) -> bool:
        """Whether a worker that held a lock in the folder holds it no more."""
        worker = _read(row, WORKER)
        folder = self._folder / str(worker)
        if worker == self.worker or not folder.is_dir():
            return False
        try:
            Hold(folder).close()
        except (UserError, OSError):
            return False
        return True

    def _release(self, session: Session) -> None:
        for row in self._rows(session):
            if _runs(row) and _read(row, WORKER) == self.worker:
                row.state = TrialState.WAITING

    def _forget_the_dead(self, session: Session) -> None:
        """Remove what killed workers have left, unless a trial is still said to be theirs."""
        claimed = {_read(row, WORKER) for row in self._rows(session) if _runs(row)}
        for folder in self._folder.glob("*"):
            if folder.name not in claimed and not is_held(folder):
                shutil.rmtree(folder, ignore_errors=True)

    def _rows(self, session: Session) -> Rows:
        chosen = select(models.TrialModel).where(models.TrialModel.study_id == self._study)
        return session.scalars(chosen.order_by(models.TrialModel.number)).all()

    @contextmanager
    def _alone(self) -> Generator[Session]:
        with Session(self._engine) as session, session.begin():
            models.StudyModel.find_or_raise_by_id(self._study, session, for_update=True)
            yield session


def write(row: Row, key: str, value: Any) -> None:
    """Set a user attribute of a trial."""
    for attribute in row.user_attributes:
        if attribute.key == key:
            attribute.value_json = json.dumps(value)
            return
    attribute = models.TrialUserAttributeModel(key=key, value_json=json.dumps(value))
    row.user_attributes.append(attribute)


def _runs(row: Row) -> bool:
    return row.state == TrialState.RUNNING


def _read(row: Row, key: str) -> Any:
    return next((json.loads(a.value_json) for a in row.user_attributes if a.key == key), None)


def _sign(row: Row, now: datetime) -> None:
    if row.heartbeats:
        row.heartbeats[0].heartbeat = now
    else:
        row.heartbeats.append(models.TrialHeartbeatModel(heartbeat=now))


def _now(session: Session) -> datetime:
    """The time by the database's clock, as it stores it."""
    return session.execute(select(func.now())).scalar_one().replace(tzinfo=None)
