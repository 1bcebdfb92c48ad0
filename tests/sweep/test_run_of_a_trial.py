"""A trial's run is watched, stopped, resumed and told apart by how it ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.hold import LOCK, Hold
from tuner.sweep.fit import Outcome, Run, Verdict, run

Make = Callable[..., Run]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def call(*arguments: str, name: str = "loss-1", seed: int = 1) -> Run:
        return Run(
            root=tmp_path / "sweep",
            name=name,
            seed=seed,
            arguments=["fit", *arguments],
            output=tmp_path / "output" / "trial.log",
        )

    return call


def watch(verdicts: dict[int, Verdict], seen: list[tuple[int, float]]) -> Callable[..., Verdict]:
    def call(validations: list[tuple[int, float]]) -> Verdict:
        seen.extend(validations)
        return verdicts.get(len(seen), "go on")

    return call


def outcome(one: Run) -> Outcome:
    return run(one, watch({}, []))


def test_validations_are_seen_once_and_in_order(make: Make) -> None:
    seen: list[tuple[int, float]] = []
    ended = run(make("--loss=0.5", "--pause=0.05"), watch({}, seen))
    assert seen == [(1, 2.5), (2, 1.5), (3, 0.5)]
    assert ended.state == "complete"
    assert ended.record["best"] == {"val_loss": 0.5}
    assert ended.folder is not None
    assert ended.folder.name == "version_0"


def test_a_run_that_has_finished_is_not_run_again(make: Make) -> None:
    one = make("--loss=0.5")
    first, seen = outcome(one), list[tuple[int, float]]()
    assert run(one, watch({}, seen)) == first
    assert seen[-1] == (3, 0.5)
    assert [folder.name for folder in one.folders()] == ["version_0"]


def test_each_seed_has_runs_of_its_own(make: Make) -> None:
    one, two = make(seed=1), make(seed=2)
    outcome(one)
    outcome(two)
    assert [folder.name for folder in one.folders()] == ["version_0"]
    assert [folder.name for folder in two.folders()] == ["version_1"]


def test_a_run_that_is_pruned_or_lost_is_stopped_and_saves(make: Make) -> None:
    began = time.monotonic()
    pruned = run(make("--steps=1000", "--pause=0.1"), watch({2: "prune"}, []))
    lost = run(make("--steps=1000", "--pause=0.1", name="other"), watch({1: "lost"}, []))
    assert (pruned.state, lost.state) == ("pruned", "lost")
    assert pruned.record["status"] == "stopped"
    assert time.monotonic() - began < 10


def test_the_last_message_of_a_failure_is_kept(make: Make) -> None:
    failed = outcome(make("--behave=fail"))
    assert (failed.state, failed.message) == ("failed", "the rows are of another kind")
    again = outcome(make("--behave=crash"))
    assert again.state == "killed"
    assert "SIGKILL" in again.message
    infinite = outcome(make("--loss=nan", name="other"))
    assert (infinite.state, infinite.message) == ("failed", "no finite val_loss")


def test_a_signal_without_a_name_is_told_by_its_number(make: Make) -> None:
    ended = outcome(make("--behave=crash", "--signal=40"))
    assert (ended.state, ended.message) == ("killed", "killed by signal 40")


@pytest.mark.parametrize("best", ["null", "[1]", '{"val_loss": "x"}', '{"val_loss": null}'])
def test_a_run_whose_record_holds_no_loss_has_failed(make: Make, best: str) -> None:
    one = make(f"--best={best}")
    ended = outcome(one)
    assert (ended.state, ended.message) == ("failed", "no finite val_loss")
    assert outcome(one) == ended, "a run that has finished before"


def test_a_run_outside_which_the_worker_died_is_waited_for(make: Make, tmp_path: Path) -> None:
    one = make()
    folder = one.root / one.name / "version_0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed_everything: 1\n")
    code = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w');"
        "fcntl.lockf(file, fcntl.LOCK_EX); print('held', flush=True); time.sleep(1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder / LOCK)], stdout=subprocess.PIPE
    ) as orphan:
        assert orphan.stdout
        orphan.stdout.readline()
        began = time.monotonic()
        ended = outcome(one)
        assert time.monotonic() - began > 0.5
    Hold(folder).close()
    assert ended.folder == folder.with_name("version_1")


def test_ctrl_c_ends_the_run(make: Make) -> None:
    def stop(validations: object) -> Verdict:
        if validations:
            raise KeyboardInterrupt
        return "go on"

    one = make("--steps=1000", "--pause=0.05")
    with pytest.raises(KeyboardInterrupt):
        run(one, stop)
    (folder,) = one.folders()
    assert '"stopped"' in (folder / "run.json").read_text()
