"""The trials of a sweep, shared by any number of workers: all wait from the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage, get_storage
from optuna.trial import FrozenTrial, TrialState

from tuner.sweep.claims import WORKER, Claims, Rows, write
from tuner.sweep.definition import Definition, Setting
from tuner.sweep.search import make_pruner, make_sampler, suggest
from tuner.sweep.study import DEFINITION, ID, SEED, SETTING, join_study, refuse_other

DEATHS, MESSAGE, RESULT = "deaths", "message", "result"  # user attributes of a trial


@dataclass(frozen=True, kw_only=True)
class Job:
    """A trial that this worker has: one setting with one seed.

    Attributes:
        number: of the trial.
        id: of the trial in the database.
        trial: as Optuna has it.
        name: of the setting.
        setting: a value for each key that varies.
        seed: of the run.
        deaths: how often its process has been killed.
        reported: optimiser steps whose validation loss is known.
    """

    number: int
    id: int
    trial: optuna.Trial
    name: str
    setting: Setting
    seed: int
    deaths: int
    reported: frozenset[int]


class Queue:
    """The trials of one sweep, as one worker sees them.

    Args:
        storage: the database.
        name: of the study, which is made unless it is there.
        definition: of the sweep.
        folder: of the sweep on this machine.

    Raises:
        UserError: the study of this name is of another sweep, or its pruner does not fit.
    """

    def __init__(
        self, storage: RDBStorage, name: str, definition: Definition, folder: Path
    ) -> None:
        self._name, self._definition = name, definition
        self._pruner = make_pruner(definition.pruner)
        self._storage = get_storage(storage)
        study = join_study(storage, name, definition)
        self.id: str = study.user_attrs[ID]
        self._begun = study.user_attrs[DEFINITION]
        self._study_id = self._storage.get_study_id_from_name(name)
        self._claims = Claims(storage.engine, self._study_id, folder / ".workers")

    def claim(self) -> Job | None:
        """Take the first trial that can run; null when there is none now.

        Raises:
            UserError: a recipe has changed since the sweep was begun.
        """
        refuse_other(self._begun, self._definition, self._name)
        taken = self._claims.take(self._first)
        if taken is None:
            return None
        number, identity = taken
        trials = self.trials()
        found, leader = trials[number], trials[self._leader(number)]
        if leader is not found and self._definition.trials is not None:
            self._storage.set_trial_system_attr(identity, "fixed_params", leader.params)
        trial = optuna.Trial(self._study(number), identity)
        return Job(
            number=number,
            id=identity,
            trial=trial,
            name=found.user_attrs[SETTING],
            setting=suggest(self._definition.over, trial),
            seed=found.user_attrs[SEED],
            deaths=found.user_attrs.get(DEATHS, 0),
            reported=frozenset(found.intermediate_values),
        )

    def renew(self, job: Job) -> bool:
        """Give a sign of life.

        Returns:
            Whether the trial is still this worker's.
        """
        return self._claims.renew(job.id)

    def finish(
        self, job: Job, state: TrialState, loss: float | None, said: Mapping[str, Any]
    ) -> None:
        """Write down how a trial ended, if it is still this worker's.

        Args:
            job: the trial.
            state: complete, pruned or failed.
            loss: the best validation loss, nats a token; of a complete trial.
            said: what else is to be known of it.
        """
        if self.renew(job):
            for key, value in said.items():
                job.trial.set_user_attr(key, value)
            self._study(job.number).tell(job.number, loss, state=state, skip_if_finished=True)

    def put_back(self, job: Job) -> None:
        """Let a trial whose process was killed wait once more."""
        job.trial.set_user_attr(DEATHS, job.deaths + 1)
        self._claims.release()

    def close(self) -> None:
        """Let go of everything."""
        self._claims.close()

    def trials(self) -> list[FrozenTrial]:
        """All trials as they are now, in order."""
        return self._storage.get_all_trials(self._study_id, deepcopy=False)

    def unfinished(self) -> int:
        """How many trials wait or run, anywhere."""
        return sum(not trial.state.is_finished() for trial in self.trials())

    def ended_here(self, trial: FrozenTrial) -> bool:
        """Whether this worker was the last to have a trial."""
        return trial.user_attrs.get(WORKER) == self._claims.worker

    def _study(self, number: int) -> optuna.Study:
        # Each trial draws from a generator of its own: two workers never draw the same.
        return optuna.load_study(
            study_name=self._name,
            storage=self._storage,
            sampler=make_sampler(number),
            pruner=self._pruner,
        )

    def _leader(self, number: int) -> int:
        """The trial of the same setting with its first seed."""
        return number - number % len(self._definition.seeds)

    def _first(self, rows: Rows, free: set[int]) -> int | None:
        for row in rows:
            if row.number not in free:
                continue
            leader = rows[self._leader(row.number)]
            if leader is row or self._definition.trials is None:
                return row.number
            # The other seeds of a searched setting wait for its first, and share its fate.
            if leader.state == TrialState.COMPLETE:
                return row.number
            if leader.state.is_finished():
                row.state = leader.state
                write(row, MESSAGE, f"not run: seed {self._definition.seeds[0]} did not finish")
        return None
