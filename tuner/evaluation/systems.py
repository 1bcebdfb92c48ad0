"""The models of a comparison: a base, and tuned runs on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from tuner.backbone import Quantize, load_base
from tuner.errors import UserError
from tuner.runs import find_run, read_record


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
    """

    name: str
    base: str
    revision: str | None
    quantize: Quantize | None
    head: str = ""
    trainable_params: int = 0
    trainable_percent: float = 0.0
    run: Path | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The run's config.yaml."""
        assert self.run is not None
        return yaml.safe_load((self.run / "config.yaml").read_text(encoding="utf-8"))

    @property
    def card(self) -> dict[str, Any]:
        """The run's data_card.json."""
        assert self.run is not None
        return json.loads((self.run / "data_card.json").read_text(encoding="utf-8"))

    def load(self, dtype: torch.dtype, device: torch.device) -> Any:
        """The model in evaluation mode on a device.

        Raises:
            UserError: the base or the exported weights do not load.
        """
        from peft import PeftModel

        if self.run is not None and (model := self.run / "model").is_dir():
            return load_base(str(model), dtype=dtype).to(device)  # pyright: ignore
        base: Any = load_base(
            self.base, self.revision, quantize=self.quantize, dtype=dtype, device=device
        )
        if self.quantize is None:
            base = base.to(device)
        if self.run is None:
            return base
        adapter = self.run / "adapter"
        if not (adapter / "adapter_config.json").is_file():
            raise UserError(f"{self.run} holds no exported adapter: the run has not finished")
        return PeftModel.from_pretrained(base, str(adapter)).eval()


def find_systems(specs: list[str], root: Path, *, with_base: bool) -> list[System]:
    """The systems that a user names, behind their common base.

    Args:
        specs: run names or folders.
        root: folder of the runs.
        with_base: put the base first, under the name `base`.

    Raises:
        UserError: no such run, two of one name, or runs on different bases.
    """
    tuned: list[System] = []
    for spec in specs:
        folder = find_run(spec, root)
        record = read_record(folder)
        tuned.append(
            System(
                name=spec if folder != Path(spec) else f"{folder.parent.name}/{folder.name}",
                base=record["base"],
                revision=record["revision"],
                quantize=record["quantize"],
                head=record["head"],
                trainable_params=record["trainable_params"],
                trainable_percent=record["trainable_percent"],
                run=folder,
            )
        )
    names = [system.name for system in tuned]
    if len(set(names)) < len(names):
        raise UserError(f"a run is named twice: {', '.join(names)}")
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
