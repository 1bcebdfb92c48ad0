"""The models of a comparison: a base, and tuned runs on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch
import yaml

from tuner.backbone import Quantize, load_adapter, load_base
from tuner.data.example import Message
from tuner.data.prompts import Prompt
from tuner.errors import UserError, intact
from tuner.evaluation.baselines import BASELINES
from tuner.evaluation.onednn import use_onednn
from tuner.evaluation.provenance import card_tables
from tuner.parser import Parser
from tuner.runs import find_runs, read_record
from tuner.sums import check_sums
from tuner.weights import weights_hash
from tuner.written import parse


@dataclass(frozen=True)
class System:
    """One model to compare.

    Attributes:
        name: how results call it.
        base: hub id, folder or `pico`.
        revision: branch, tag or commit of a hub id.
        quantize: quantisation of the base.
        head: class name of the head; empty for a bare base.
        trainable_params: number of trained parameters.
        trainable_percent: their share of all, in percent.
        run: folder of the run; None for a bare base.
        recipe: name that runs of several seeds share; empty where a run stands for itself.
        shots: turns that have been answered, put before every prompt.
        baseline: whether it is one of `tuner.evaluation.baselines`, which needs no model.
    """

    name: str
    base: str
    revision: str | None
    quantize: Quantize | None
    head: str = ""
    trainable_params: int = 0
    trainable_percent: float = 0.0
    run: Path | None = None
    recipe: str = ""
    shots: tuple[Message, ...] = ()
    baseline: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """The run's config.yaml."""
        assert self.run is not None
        found = _read(self.run / "config.yaml", parse)
        if not {"data", "seed_everything"} <= found.keys():
            raise UserError(f"{self.run / 'config.yaml'}: has no data or no seed_everything")
        return found

    @property
    def card(self) -> dict[str, Any]:
        """The run's data_card.json."""
        assert self.run is not None
        found = _read(self.run / "data_card.json", json.loads)
        with intact(self.run / "data_card.json"):
            card_tables(found)  # fails here, and not in a report after hours of answers
        return found

    @property
    def trained(self) -> Path:
        """The folder of the run's trained weights.

        Raises:
            UserError: there is none.
        """
        assert self.run is not None
        for file in (self.run / "adapter/adapter_config.json", self.run / "model/config.json"):
            if file.is_file():
                return file.parent
        raise UserError(f"{self.run} holds no exported weights: the run has not finished")

    @property
    def rendering(self) -> dict[str, Any]:
        """Class and settings of the prompt that the run was trained with."""
        return _read(self.trained / "prompt.json", json.loads)

    @property
    def prompt(self) -> Prompt:
        """The rendering that the run was trained with.

        Raises:
            UserError: there is no such class any more, or it takes other settings.
        """
        parser = Parser()
        parser.add_argument("--prompt", type=Prompt)
        return parser.instantiate(parser.parse_object({"prompt": self.rendering}))["prompt"]

    @cached_property
    def hashes(self) -> dict[str, str | None]:
        """SHA-256 of the base's weights and of the trained ones; null where there are none."""
        trained = None if self.run is None else weights_hash(str(self.trained))
        base = None if self.baseline else weights_hash(self.base, self.revision)
        return {"base_sha256": base, "trained_sha256": trained}

    def load(self, dtype: torch.dtype, device: torch.device) -> Any:
        """The model in evaluation mode on a device.

        Raises:
            UserError: the base or the exported weights do not load, or these were changed.
        """
        if self.run is not None and (model := self.run / "model").is_dir():
            return use_onednn(load_base(str(model), dtype=dtype).to(device))  # pyright: ignore
        base: Any = load_base(
            self.base, self.revision, quantize=self.quantize, dtype=dtype, device=device
        )
        if self.quantize is None:
            base = base.to(device)
        if self.run is None:
            return use_onednn(base)
        check_sums(self.trained)
        return use_onednn(load_adapter(base, self.trained))


def _read(file: Path, reader: Callable[[str], Any]) -> dict[str, Any]:
    """A mapping that a run has left."""
    try:
        with intact(file):
            found = reader(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{file}: cannot be read: it holds no mapping")
    return found


def find_systems(specs: list[str], root: Path, *, with_base: bool) -> list[System]:
    """The systems that a user names, behind their common base.

    Args:
        specs: see `find_runs`.
        root: folder of the runs.
        with_base: put the base first, under the name `base`.

    Raises:
        UserError: no such run, two of one name, runs on different bases, with different renderings
            of prompts, or that are not seeds of one recipe.
    """
    tuned = [system for spec in specs for system in _named(spec, root)]
    names = [system.name for system in tuned]
    if len(set(names)) < len(names):
        raise UserError(f"a run is named twice: {', '.join(names)}")
    if taken := {"base", "few_shot", *BASELINES} & set(names):
        raise UserError(f"{taken.pop()}: a comparison has a system of its own of this name")
    _refuse_other_renderings(tuned)
    _refuse_mixed_recipes(tuned)
    first = tuned[0]
    others = {system.base for system in tuned} - {first.base}
    if not with_base:
        return tuned
    if others:
        raise UserError(
            f"the runs have different bases ({first.base}, {', '.join(sorted(others))}), so there "
            "is no common one to compare with; leave it out with --no_base"
        )
    return [System("base", first.base, first.revision, first.quantize), *tuned]


def find_system(spec: str, root: Path) -> System:
    """The one run that a user names.

    Args:
        spec: see `find_runs`.
        root: folder of the runs.

    Raises:
        UserError: there is none, or there are several.
    """
    found = _named(spec, root)
    if len(found) > 1:
        raise UserError(f"{spec}: these are several; name one: {', '.join(s.name for s in found)}")
    return found[0]


def _named(spec: str, root: Path) -> list[System]:
    """The runs that one name stands for; of `name@*` the newest of each seed."""
    recipe = spec.removesuffix("@*") if spec.endswith("@*") else ""
    found: dict[Any, System] = {}
    for name, folder in find_runs(spec, root):
        record = read_record(folder)
        with intact(folder / "run.json"):
            if record["quantize"] not in (None, *get_args(Quantize)):
                raise ValueError(f"quantize is {record['quantize']!r:.80}")
            system = System(
                name=name,
                base=str(record["base"]),
                revision=record["revision"] and str(record["revision"]),
                quantize=record["quantize"],
                head=str(record["head"]),
                trainable_params=int(record["trainable_params"]),
                trainable_percent=float(record["trainable_percent"]),
                run=folder,
                recipe=recipe,
            )
        found[str(system.config["seed_everything"]) if recipe else name] = system
    return list(found.values())


def _refuse_other_renderings(tuned: list[System]) -> None:
    """Refuse runs that were trained to see prompts in different forms."""
    first = tuned[0]
    for other in tuned[1:]:
        if other.rendering != first.rendering:
            classes = [one.rendering.get("class_path") for one in (first, other)]
            raise UserError(
                f"{first.name} and {other.name} were trained with different renderings of prompts "
                f"({classes[0]}, {classes[1]}, or other "
                "settings), so their replies are not to the same prompts"
            )


# What a run of another seed may have otherwise.
OWN = ("seed_everything", "ckpt_path", "name", "config")


def _refuse_mixed_recipes(tuned: list[System]) -> None:
    """Refuse runs as seeds of one recipe when something else differs."""
    kept: dict[str, tuple[System, dict[str, Any]]] = {}
    for system in filter(lambda one: one.recipe, tuned):
        rest = {key: value for key, value in system.config.items() if key not in OWN}
        first, expected = kept.setdefault(system.recipe, (system, rest))
        changed = [key for key in expected | rest if rest.get(key) != expected.get(key)]
        if changed:
            raise UserError(
                f"{system.recipe}@*: {first.name} and {system.name} differ in {changed[0]}, so "
                "they are not seeds of one recipe; name the runs one by one"
            )
