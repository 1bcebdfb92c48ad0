"""A sweep killed again and again: every run is done, none twice, and nothing piles up."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.faults.conftest import Child
from tuner.runs import read_record
from tuner.tools.sweep import main

STUB = ROOT / "tests" / "sweep" / "stub_fit.py"


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A sweep of six runs of the stub."""
    monkeypatch.setattr("tuner.tools.sweep.check", lambda definition: None)
    monkeypatch.setattr("tuner.sweep.fit.PROGRAM", (sys.executable, "-S", str(STUB)))
    monkeypatch.setattr("tuner.sweep.fit.POLL", 0.01)
    monkeypatch.setattr("tuner.sweep.worker.IDLE", 0.02)
    recipe, file = tmp_path / "recipe.yaml", tmp_path / "ranks.yaml"
    recipe.write_text("seed_everything: 1\n")
    sweep = {"config": str(recipe), "over": {"loss": [1, 2, 3]}, "seeds": [1, 2], "compare": 0}
    file.write_text(yaml.safe_dump(sweep))
    return [str(file), f"--logs={tmp_path / 'logs'}", "--pause=0.02"]


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.soak)])
def test_a_sweep_killed_at_random_instants_ends_with_every_run_done_once(
    arguments: list[str],
    child: Callable[..., Child],
    tmp_path: Path,
    figures: Callable[..., None],
    kills: int,
) -> None:
    draw, done, sweeps, most = random.Random(kills), 0, 0, 0
    while done < kills:
        own = [*arguments, f"--name=sweep-{sweeps}"]
        folder = tmp_path / "logs" / "sweeps" / f"sweep-{sweeps}"
        sweeps += 1
        while True:
            # Two workers at times, of which one is killed.
            other = child(lambda own=own: main(own)) if draw.random() < 0.3 else None
            one = child(lambda own=own: main(own))
            one.process.join(draw.uniform(0.1, 4) if done < kills else None)
            if killed := one.process.exitcode is None:
                one.process.kill()
                done += 1
            one.process.join()
            assert killed or one.process.exitcode == 0, one.said
            if other is not None:
                assert other.wait() == 0, other.said
            most = max(most, len(list(folder.glob(".workers/*"))))
            if not killed:
                break
        results = json.loads((folder / "results.json").read_text())
        runs = [run for setting in results["settings"] for run in setting["runs"]]
        assert [run["state"] for run in runs] == ["complete"] * 6
        finished = Counter(
            (version.parent.name, (version / "config.yaml").read_text())
            for version in folder.glob("loss-*/version_*")
            if read_record(version).get("status") == "finished"
        )
        assert sorted(finished.values()) == [1] * 6
        assert not list(folder.glob(".workers/*"))
        assert not list(folder.rglob("*.part"))
    assert most <= 3, "what killed workers leave is removed by the next one"
    figures("faults", "sweep killed at a random instant", done, sweeps=sweeps, runs=6 * sweeps)
