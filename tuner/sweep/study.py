"""The Optuna study of a sweep: made once, with all its trials, and kept for that sweep alone."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.storages._rdb import models  # pyright: ignore[reportPrivateUsage]
from optuna.trial import TrialState
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from tuner.errors import UserError
from tuner.sweep.definition import Definition

SETTING, SEED = "setting", "seed"  # user attributes of a trial
ID, DEFINITION = "id", "definition"  # of the study
MARK = ".study-"  # a file of this name says which study a folder is of


def join_study(storage: RDBStorage, name: str, definition: Definition) -> optuna.Study:
    """The study of a name; of workers that come first together, one makes it.

    Args:
        storage: the database.
        name: of the study.
        definition: of the sweep.

    Returns:
        The study. Its trials are numbered setting by setting, and seed by seed in a setting.

    Raises:
        UserError: it was made for another sweep.
    """
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        study = _make(storage, name, definition)
    refuse_other(study.user_attrs[DEFINITION], definition, name)
    return study


def _make(storage: RDBStorage, name: str, definition: Definition) -> optuna.Study:
    """Make it under another name and rename it: what has the name has all its trials."""
    own = uuid.uuid4().hex
    draft = optuna.create_study(study_name=f"{name} (draft {own})", storage=storage)
    draft.set_user_attr(DEFINITION, definition.described())
    draft.set_user_attr(ID, own)
    settings = definition.grid()
    for number, setting in enumerate(definition.names()):
        fixed = {"fixed_params": settings[number]} if settings else {}
        for seed in definition.seeds:
            draft.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.WAITING,
                    user_attrs={SETTING: setting, SEED: seed},
                    system_attrs=fixed,
                )
            )
    rename = update(models.StudyModel).where(models.StudyModel.study_name == draft.study_name)
    try:
        with storage.engine.begin() as connection:
            connection.execute(rename.values(study_name=name))
    except IntegrityError:  # another worker was faster
        optuna.delete_study(study_name=draft.study_name, storage=storage)
    return optuna.load_study(study_name=name, storage=storage)


def refuse_other(begun: Mapping[str, Any], definition: Definition, name: str) -> None:
    """Make sure that a sweep is still the one that was begun.

    Args:
        begun: how it was described then.
        definition: what it is now.
        name: of the study.

    Raises:
        UserError: it is not, or a recipe has changed.
    """
    now = definition.described()
    for key in now:
        if now[key] != begun.get(key):
            raise UserError(
                f"the sweep '{name}' was begun with {key} {json.dumps(begun.get(key))}, "
                f"not {json.dumps(now[key])}. Choose another --name, or remove what is there"
            )


def mark(folder: Path, identity: str) -> None:
    """Keep a folder for one sweep.

    Args:
        folder: of the sweep.
        identity: of its study.

    Raises:
        UserError: it holds runs of another one.
    """
    own = folder / f"{MARK}{identity}"
    own.touch()
    if set(folder.glob(f"{MARK}*")) != {own}:
        own.unlink()
        raise UserError(
            f"{folder} holds the runs of another sweep of this name, whose database is not this "
            "one. Choose another --name, or remove the folder"
        )
