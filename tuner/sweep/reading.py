"""The YAML of a sweep, read strictly.

config: configs/demo.yaml
over:
  model.head.r: [4, 8, 16]
  optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
trials: 20
seeds: [1, 2, 3]
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.errors import UserError
from tuner.sweep.definition import Definition, Range
from tuner.written import kind, load, mapping, sequence, text

KEYS = (
    *("config", "options", "over", "seeds", "trials", "pruner"),
    *("compare", "evaluation"),
)
# What the sweep itself says to `fit`, and how the user says it to the sweep.
OWN = {
    "config": "config",
    "name": "--name",
    "seed_everything": "seeds",
    "ckpt_path": "nothing, as a trial resumes by itself",
    "trainer.default_root_dir": "--logs",
}
MOST_RUNS = 100_000  # each has a line in the database before the first one begins
OF_COMPARISON = ("runs", "logs", "output")


def read_definition(file: Path, instead: Mapping[str, Any], more: Sequence[str] = ()) -> Definition:
    """Read a sweep from its YAML.

    Args:
        file: the YAML.
        instead: keys of the YAML that were given on the command line; null where they were not.
        more: options of `fit` from the command line.

    Raises:
        UserError: the file cannot be read, or something in it does not fit; names file and key.
    """
    where = str(file)
    found = mapping(load(file, "sweep"), KEYS, where)
    found |= {key: value for key, value in instead.items() if value is not None}
    for key in ("config", "over"):
        if not found.get(key):
            raise UserError(f"{where}: {key}: is missing")
    options = mapping(found.get("options") or {}, None, f"{where}: options")
    over = mapping(found["over"], None, f"{where}: over")
    given = [word[2:].split("=")[0] for word in more if word.startswith("--")]
    for key in [*options, *over, *given]:
        for own, way in OWN.items():
            # The parser of `fit` takes the beginning of a key for the key.
            if own.startswith(key) and own.count(".") == key.count("."):
                raise UserError(f"{where}: {key}: is set by the sweep; use {way}")
    evaluation = mapping(found.get("evaluation") or {}, None, f"{where}: evaluation")
    for key in evaluation:
        if key in OF_COMPARISON:
            raise UserError(f"{where}: evaluation.{key}: is set by the sweep")
    trials = _count(found.get("trials"), 1, f"{where}: trials")
    values = {k: _values(v, trials is not None, f"{where}: over.{k}") for k, v in over.items()}
    sizes = [len(v) for v in values.values() if not isinstance(v, Range)]
    if trials is not None and len(sizes) == len(values) and math.prod(sizes) <= trials:
        raise UserError(
            f"{where}: trials: there are only {math.prod(sizes)} settings; leave `trials` out to "
            "run them all"
        )
    seeds = _seeds(found.get("seeds", [42]), f"{where}: seeds")
    if (math.prod(sizes) if trials is None else trials) * len(seeds) > MOST_RUNS:
        raise UserError(f"{where}: over, trials, seeds: more than {MOST_RUNS:,} runs")
    compare = _count(found.get("compare"), 0, f"{where}: compare")
    return Definition(
        config=_config(found["config"], where),
        options=(*_spelled_all(options, f"{where}: options"), *more),
        over=values,
        seeds=seeds,
        trials=trials,
        pruner=_pruner(found.get("pruner"), f"{where}: pruner"),
        compare=1 if compare is None else compare,
        evaluation=_spelled_all(evaluation, f"{where}: evaluation"),
    )


def _config(raw: object, where: str) -> tuple[str, ...]:
    files = [raw] if isinstance(raw, str) else sequence(raw, f"{where}: config")
    return tuple(text({"config": file}, "config", where) for file in files)


def _spelled(value: Any, where: str) -> str:
    """A value as it stands on the command line."""
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except TypeError as error:  # a date, bytes or a set
        raise UserError(f"{where}: {error}; put it in quotes") from error


def _spelled_all(options: Mapping[str, Any], where: str) -> tuple[str, ...]:
    return tuple(f"--{key}={_spelled(value, f'{where}.{key}')}" for key, value in options.items())


def _values(raw: object, search: bool, where: str) -> tuple[str, ...] | Range:
    if isinstance(raw, dict):
        if not search:
            raise UserError(f"{where}: a range needs a search: say how many `trials`")
        return _range(mapping(raw, ("low", "high", "log", "step"), where), where)
    values = tuple(_spelled(value, where) for value in sequence(raw, where))
    if not values:
        raise UserError(f"{where}: is empty")
    if len(set(values)) < len(values):
        raise UserError(f"{where}: a value stands twice")
    return values


def _range(raw: dict[str, Any], where: str) -> Range:
    for key in ("low", "high", "step"):
        if key not in raw and key != "step":
            raise UserError(f"{where}: has no {key}")
        value = raw.get(key)
        if value is None and key == "step":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            hint = ". YAML takes 1e-4 for text; write 1.0e-4" if isinstance(value, str) else ""
            raise UserError(f"{where}: {key}: must be a number, not {kind(value)}{hint}")
        if not -sys.float_info.max <= value <= sys.float_info.max:  # NaN is not, either
            raise UserError(f"{where}: {key}: {str(value)[:20]} is no finite number")
    if not isinstance(raw.get("log", False), bool):
        raise UserError(f"{where}: log: must be true or false")
    found = Range(**raw)
    if not found.low < found.high:
        raise UserError(f"{where}: low must be less than high")
    if found.log and (found.low <= 0 or found.step is not None):
        raise UserError(f"{where}: log needs a low above 0, and no step")
    if found.step is not None and found.step <= 0:
        raise UserError(f"{where}: step must be more than 0")
    return found


def _seeds(raw: object, where: str) -> tuple[int, ...]:
    seeds = [_count(seed, 0, where) or 0 for seed in sequence(raw, where)]
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"{where}: give one or more, each once")
    return tuple(seeds)


def _count(raw: object, least: int, where: str) -> int | None:
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < least:
        raise UserError(f"{where}: {raw!r} is not allowed; give a whole number from {least} on")
    return raw


def _pruner(raw: object, where: str) -> tuple[str, Mapping[str, Any]] | None:
    if raw is None:
        return None
    named: object = {"class_path": raw} if isinstance(raw, str) else raw
    found = mapping(named, ("class_path", "init_args"), where)
    if "class_path" not in found:
        raise UserError(f"{where}: has no class_path")
    settings = mapping(found.get("init_args") or {}, None, f"{where}: init_args")
    _spelled(settings, f"{where}: init_args")  # it is kept as JSON
    return text(found, "class_path", where), settings
