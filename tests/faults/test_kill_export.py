"""`tuner export` killed at any instant: a folder of that name is whole, and nothing piles up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.faults.conftest import Child
from tuner.tools.export import main


@pytest.mark.parametrize("kills", [1, pytest.param(50, marks=pytest.mark.soak)])
def test_an_export_is_whole_or_not_there(
    fit: Callable[..., Path],
    child: Callable[..., Child],
    tmp_path: Path,
    figures: Callable[..., None],
    kills: int,
) -> None:
    run = fit("--trainer.max_steps=2")
    folder = tmp_path / "exports"

    def export(name: str) -> int:
        return main([str(run), f"--to={folder / name}", "--form=adapter", f"--logs={tmp_path}"])

    began = time.perf_counter()
    assert export("whole") == 0
    seconds = time.perf_counter() - began
    whole = {file.name for file in (folder / "whole").iterdir()}
    weights = load_file(folder / "whole" / "adapter_model.safetensors")
    draw, most, ended = random.Random(kills), 0, 0
    for _ in range(kills):
        one = child(partial(export, f"mine-{ended}"))
        one.process.join(draw.uniform(0, seconds))
        one.process.kill()
        one.process.join()
        most = max(most, len(list(folder.glob(".mine-*.part"))))
        target = folder / f"mine-{ended}"
        if target.exists():
            assert {file.name for file in target.iterdir()} - {".lock"} == whole
            ended += 1
    assert most <= 1, "each export removes what a killed one of the same name has left"
    assert export(f"mine-{ended}") == 0
    target = folder / f"mine-{ended}"
    assert {file.name for file in target.iterdir()} == whole
    found = load_file(target / "adapter_model.safetensors")
    assert all((found[key] == weight).all() for key, weight in weights.items())
    assert not list(folder.glob(".*"))
    figures("faults", "`tuner export` killed at a random instant", kills, exported=ended + 1)
