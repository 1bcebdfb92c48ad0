"""A worker runs what there is, whatever becomes of single trials, and the best is found."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState

from tuner.sweep.definition import Definition, Range
from tuner.sweep.queue import Queue
from tuner.sweep.summary import summarise
from tuner.sweep.worker import work

Define, Join = Callable[..., Definition], Callable[..., Queue]
MEDIAN = ("MedianPruner", {"n_startup_trials": 2, "n_warmup_steps": 0})


def nothing() -> None:
    """No signal has come."""


def states(queue: Queue) -> list[str]:
    return [trial.state.name for trial in queue.trials()]


def test_all_runs_are_run_and_summed_up(
    define: Define, join: Join, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = define(over={"loss": ("2", "1")}, options=("--pause=0.02",))
    queue = join(definition)
    assert work(queue, definition, tmp_path / "sweep", nothing)
    assert states(queue) == ["COMPLETE"] * 4
    out = capsys.readouterr().out
    assert "[1/4] loss=2 seed=1: val_loss 2.0000" in out
    assert "[4/4] loss=1 seed=2: val_loss 1.0000" in out
    assert len(out.splitlines()) == 4
    results = summarise("losses", definition, queue.trials())
    best = results["settings"][0]
    assert (best["name"], results["chosen"]) == ("loss-1", ["loss-1"])
    assert best["val_loss"] == {"mean": 1.0, "sd": 0.0, "ci95": None}
    assert best["costs"]["training_seconds"] == 1.5
    assert results["lead"]["delta"] == 1.0
    run = best["runs"][0]
    assert (tmp_path / "sweep" / "loss-1" / Path(run["run"]).name / "run.json").is_file()
    assert "starting fit" in (tmp_path / "sweep" / "output" / "loss-1-seed-1.log").read_text()
    # Nothing is left to do, so this worker may sum up as well, and nothing is run again.
    assert work(join(definition), definition, tmp_path / "sweep", nothing)
    assert len(list((tmp_path / "sweep").glob("loss-*/version_*"))) == 4


def test_a_failure_is_recorded_and_the_sweep_goes_on(
    define: Define, join: Join, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = define(over={"behave": ("fail", "crash", "crash once", "well")}, seeds=(1,))
    queue = join(definition)
    work(queue, definition, tmp_path / "sweep", nothing)
    assert states(queue) == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    failed, crashed, recovered, _ = queue.trials()
    assert failed.user_attrs["message"] == "the rows are of another kind"
    assert crashed.user_attrs["message"] == "killed by SIGKILL; out of memory? (3 times)"
    assert len(list((tmp_path / "sweep").glob("behave-crash/version_*"))) == 3
    assert recovered.user_attrs["deaths"] == 1
    out = capsys.readouterr().out
    assert "failed: the rows are of another kind" in out
    assert "goes on later" in out
    results = summarise("losses", definition, queue.trials())
    assert results["settings"][0]["val_loss"]["mean"] == 1.0
    assert results["settings"][-1]["val_loss"] is None


@pytest.mark.parametrize(
    "pruner", [MEDIAN, ("SuccessiveHalvingPruner", {"min_resource": 1, "reduction_factor": 2})]
)
def test_what_lags_behind_is_pruned(
    pruner: object, define: Define, join: Join, tmp_path: Path
) -> None:
    definition = define(
        over={"loss": ("1", "2", "9")}, seeds=(1,), pruner=pruner, options=("--pause=0.2",)
    )
    queue = join(definition)
    work(queue, definition, tmp_path / "sweep", nothing)
    last = queue.trials()[-1]
    assert last.state == TrialState.PRUNED
    assert len(last.intermediate_values) < 3
    results = summarise("losses", definition, queue.trials())
    run = results["settings"][-1]["runs"][0]
    assert run["state"] == "pruned"
    assert run["val_loss"] > 9


def test_a_search_finds_what_is_better_and_repeats_it_with_every_seed(
    define: Define, join: Join, tmp_path: Path
) -> None:
    definition = define(over={"loss": Range(low=1, high=5.5)}, trials=4, seeds=(1, 2))
    queue = join(definition)
    work(queue, definition, tmp_path / "sweep", nothing)
    results = summarise("losses", definition, queue.trials())
    means = [one["val_loss"]["mean"] for one in results["settings"]]
    assert means == sorted(means)
    for one in results["settings"]:
        value = float(one["values"]["loss"])
        assert [run["val_loss"] for run in one["runs"]] == [value, value]


def test_a_worker_waits_for_the_others_and_leaves_summing_up_to_the_last(
    define: Define, join: Join, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = define(over={"loss": ("1", "2")}, seeds=(1,))
    first, second = join(definition), join(definition)
    job = first.claim()
    assert job is not None
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if second.unfinished() == 1:
            first.finish(job, TrialState.COMPLETE, 1.0, {})

    clock = SimpleNamespace(sleep=wait, monotonic=time.monotonic)
    monkeypatch.setattr("tuner.sweep.worker.time", clock)
    assert not work(second, definition, tmp_path / "sweep", nothing)
    assert waited
    assert first.ended_here(first.trials()[0])
    assert states(first) == ["COMPLETE", "COMPLETE"]


def test_the_line_of_a_terminal_changes(
    define: Define,
    join: Join,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    definition = define(over={"loss": ("1",)}, seeds=(1,), options=("--pause=0.05",))
    work(join(definition), definition, tmp_path / "sweep", nothing)
    out = capsys.readouterr().out
    assert "\r\033[K[1/1] loss=1 seed=1: step 2, val_loss 2.0000, 0:0" in out
    assert out.count("\n") == 1
