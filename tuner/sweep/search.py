"""What Optuna decides: the next setting, and whether a run goes on."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler

from tuner.errors import UserError, nearest
from tuner.sweep.definition import Range, Setting


def make_sampler(seed: int) -> BaseSampler:
    """Draws settings near the good ones, and away from those that others try at the same time.

    The tree-structured Parzen estimator (Bergstra et al. 2011,
    https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization).

    Args:
        seed: of the draw.
    """
    return TPESampler(seed=seed, constant_liar=True)


def make_pruner(spec: tuple[str, Mapping[str, Any]] | None) -> BasePruner:
    """The pruner that a sweep names.

    Args:
        spec: class of `optuna.pruners` and its settings; null for none.

    Raises:
        UserError: there is no such class, or its settings do not fit.
    """
    if spec is None:
        return NopPruner()
    name, settings = spec
    known = {
        key: value
        for key, value in vars(optuna.pruners).items()
        if inspect.isclass(value) and issubclass(value, BasePruner) and value is not BasePruner
    }
    if name not in known:
        raise UserError(f"pruner: unknown class '{name}'. {nearest(name, known)}")
    try:
        return known[name](**settings)
    except Exception as error:  # each class checks its settings in its own way, or not at all
        raise UserError(f"pruner: {name}: {error}") from error


def suggest(over: Mapping[str, tuple[str, ...] | Range], trial: optuna.Trial) -> Setting:
    """A value for each key that varies; what is settled in the trial stays."""
    return {key: _suggest(key, values, trial) for key, values in over.items()}


def _suggest(key: str, of: tuple[str, ...] | Range, trial: optuna.Trial) -> str:
    if not isinstance(of, Range):
        return trial.suggest_categorical(key, of)
    if all(isinstance(number, int) for number in (of.low, of.high, of.step or 1)):
        step = int(of.step or 1)
        return json.dumps(trial.suggest_int(key, int(of.low), int(of.high), log=of.log, step=step))
    return json.dumps(trial.suggest_float(key, of.low, of.high, log=of.log, step=of.step))
