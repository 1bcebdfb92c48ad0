"""Every trial is claimed by one worker at a time, and by another when that one is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tuner.errors import UserError
from tuner.sweep.definition import Definition, Range
from tuner.sweep.queue import Job, Queue
from tuner.sweep.storage import open_storage, sqlite_url

Join = Callable[..., Queue]
DONE: dict[str, Any] = {}
LR = {"optimizer.lr": Range(low=1e-4, high=1e-2, log=True)}


def claimed(queue: Queue) -> Job:
    job = queue.claim()
    assert job is not None
    return job


def forked(work: Callable[[], None]) -> multiprocessing.Process:
    process: Any = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def complete(queue: Queue, loss: float = 1.0) -> Job:
    job = claimed(queue)
    queue.finish(job, TrialState.COMPLETE, loss, DONE)
    return job


def test_a_grid_waits_whole_from_the_start(join: Join) -> None:
    queue = join()
    settings = [t.user_attrs["setting"] for t in queue.trials()]
    assert settings == ["loss-1", "loss-1", "loss-2", "loss-2", "loss-3", "loss-3"]
    assert [t.user_attrs["seed"] for t in queue.trials()] == [1, 2] * 3
    jobs = [claimed(queue) for _ in range(6)]
    assert [job.setting["loss"] for job in jobs] == ["1", "1", "2", "2", "3", "3"]
    assert queue.claim() is None
    assert queue.unfinished() == 6
    for job in jobs:
        queue.finish(job, TrialState.COMPLETE, 1.0, DONE)
    assert queue.unfinished() == 0


def test_many_workers_claim_each_trial_once(
    define: Callable[..., Definition], tmp_path: Path
) -> None:
    definition = define(over={"loss": tuple(map(str, range(6)))}, seeds=(1, 2))

    def work() -> None:
        # They also come first together: the study is made once, with all its trials.
        storage = open_storage(sqlite_url(tmp_path / "sweep.sqlite"))
        queue = Queue(storage, "losses", definition, tmp_path)
        while job := queue.claim():
            with (tmp_path / "claimed").open("a") as file:
                file.write(f"{job.number}\n")
            queue.finish(job, TrialState.COMPLETE, 1.0, DONE)

    workers = [forked(work) for _ in range(4)]
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    counts = Counter((tmp_path / "claimed").read_text().split())
    assert counts == {str(number): 1 for number in range(12)}
    assert optuna.get_all_study_names(sqlite_url(tmp_path / "sweep.sqlite")) == ["losses"]


def test_a_claim_begins_with_the_lock(join: Join, tmp_path: Path) -> None:
    """What makes the test before pass, whatever the timing: a claim waits for another writer."""
    queue = join()
    other = sqlite3.connect(tmp_path / "sweep.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    jobs: list[Job | None] = []
    thread = threading.Thread(target=lambda: jobs.append(queue.claim()))
    thread.start()
    thread.join(0.3)
    assert not jobs
    # Meanwhile the other one takes the first trial.
    other.execute("UPDATE trials SET state = 'COMPLETE' WHERE number = 0")
    other.execute("COMMIT")
    thread.join()
    assert jobs[0] is not None
    assert jobs[0].number == 1


def test_a_worker_that_dies_is_noticed_on_its_machine_at_once(join: Join, tmp_path: Path) -> None:
    queue = join(machine="same")

    def die() -> None:
        claimed(join(machine="same"))
        os.kill(os.getpid(), signal.SIGKILL)

    dead = forked(die)
    dead.join()
    assert dead.exitcode == -signal.SIGKILL
    # Elsewhere nothing is known of it before it has been silent for long.
    assert claimed(join(machine="other")).number == 1
    assert claimed(queue).number == 0


def test_a_worker_that_is_silent_is_taken_for_dead(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = join(), join()
    job = claimed(first)
    job.trial.report(3.0, 1)
    assert claimed(second).number == 1
    monkeypatch.setattr("tuner.sweep.claims.STALE", -2)
    assert first.renew(job)
    taken = claimed(second)
    assert taken.number == 0
    assert taken.reported == {1}
    # The first one awakes: the trial is not its own any more, and it says nothing of it.
    assert not first.renew(job)
    first.finish(job, TrialState.FAIL, None, {"message": "mine"})
    assert second.renew(taken)
    second.finish(taken, TrialState.COMPLETE, 1.5, DONE)
    trial = second.trials()[0]
    assert trial.value == 1.5
    assert "message" not in trial.user_attrs


def test_what_a_worker_lets_go_of_waits_again(join: Join) -> None:
    first, second = join(), join()
    job = claimed(first)
    first.put_back(job)
    again = claimed(second)
    assert (again.number, again.deaths) == (0, 1)
    second.close()
    assert claimed(first).number == 0
    assert not first.ended_here(second.trials()[1])


def test_another_sweep_of_the_same_name_is_refused(
    join: Join, define: Callable[..., Definition], tmp_path: Path
) -> None:
    queue = join()
    with pytest.raises(UserError, match=r"begun with seeds \[1, 2\], not \[3\]"):
        join(define(seeds=(3,)))
    join(define(compare=3))  # says nothing about the runs
    (tmp_path / "recipe.yaml").write_text("model: {base: other}\n")
    with pytest.raises(UserError, match="begun with config"):
        queue.claim()


def test_a_search_draws_for_the_first_seed_and_the_others_follow(
    join: Join, define: Callable[..., Definition]
) -> None:
    queue = join(define(over=LR, trials=3, seeds=(1, 2)))
    first = claimed(queue)
    second = claimed(queue)
    assert (first.number, second.number) == (0, 2)
    assert first.setting != second.setting
    assert 1e-4 <= float(first.setting["optimizer.lr"]) <= 1e-2
    queue.finish(first, TrialState.COMPLETE, 1.0, DONE)
    follower = claimed(queue)
    assert (follower.number, follower.seed) == (1, 2)
    assert follower.setting == first.setting
    queue.finish(second, TrialState.PRUNED, None, DONE)
    assert claimed(queue).number == 4  # the second seed of what was pruned is not run
    skipped = queue.trials()[3]
    assert skipped.state == TrialState.PRUNED
    assert "seed 1" in skipped.user_attrs["message"]


def test_workers_draw_different_settings_and_a_setting_stays(
    join: Join, define: Callable[..., Definition], monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = define(over=LR, trials=8, seeds=(1,))
    queues = [join(definition), join(definition)]
    jobs = [claimed(queue) for _ in range(4) for queue in queues]
    assert len({job.setting["optimizer.lr"] for job in jobs}) == 8
    monkeypatch.setattr("tuner.sweep.claims.STALE", -2)
    again = claimed(join(definition))
    assert again.setting == jobs[0].setting


def test_whole_numbers_and_lists_are_drawn_as_such(
    join: Join, define: Callable[..., Definition]
) -> None:
    over = {
        "r": Range(low=4, high=16, step=4),
        "quantize": ("null", "nf4"),
        "x": Range(low=0, high=0.5),
    }
    queue = join(define(over=over, trials=6, seeds=(1,)))
    settings = [complete(queue).setting for _ in range(6)]
    assert {one["r"] for one in settings} <= {"4", "8", "12", "16"}
    assert {one["quantize"] for one in settings} <= {"null", "nf4"}
    assert all(0 <= float(one["x"]) <= 0.5 for one in settings)


def test_a_pruner_must_be_one(join: Join, define: Callable[..., Definition]) -> None:
    for pruner, message in (
        (("MedianPrunr", {}), "Did you mean 'MedianPruner'"),
        (("MedianPruner", {"n_startup": 1}), "MedianPruner: .*n_startup"),
        (("SuccessiveHalvingPruner", {"reduction_factor": 1}), "reduction_factor"),
    ):
        with pytest.raises(UserError, match=message):
            join(define(pruner=pruner))
