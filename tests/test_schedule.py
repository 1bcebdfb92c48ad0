"""Learning-rate schedules against their formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.optim import SGD

from tuner.errors import UserError
from tuner.schedule import WarmUp, make_scheduler, total_steps


def optimizer(rate: float = 1.0) -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def rates(steps: int, **settings: Any) -> list[float]:
    sgd = optimizer()
    schedule = WarmUp(sgd, total_steps=steps, **settings)
    found: list[float] = []
    for _ in range(steps):
        found.append(sgd.param_groups[0]["lr"])
        sgd.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("decay", "shape"),
    [
        ("constant", lambda share: 1.0),
        ("linear", lambda share: 1 - share),
        ("cosine", lambda share: (1 + math.cos(math.pi * share)) / 2),
    ],
)
def test_warm_up_then_decay_to_the_floor(decay: str, shape: Any) -> None:
    found = rates(12, warmup=3, decay=decay, floor=0.1)
    assert found[:3] == pytest.approx([1 / 4, 2 / 4, 3 / 4])
    expected = [0.1 + 0.9 * shape(step / 9) for step in range(9)]
    assert found[3:] == pytest.approx(expected)


def test_warm_up_below_one_is_a_share_of_all_steps() -> None:
    assert rates(20, warmup=0.2, decay="constant") == rates(20, warmup=4, decay="constant")
    assert rates(5, warmup=0, decay="constant") == [1.0] * 5


def test_every_step_trains_even_when_the_warm_up_is_longer_than_the_run() -> None:
    found = rates(4, warmup=100)
    assert found == sorted(found)
    assert all(0 < rate < 0.05 for rate in found)


@pytest.mark.parametrize(
    ("key", "value"), [("warmup", -1), ("warmup", 1.5), ("floor", -5), ("total_steps", 0)]
)
def test_what_no_schedule_can_be_made_of_is_refused(key: str, value: float) -> None:
    settings: dict[str, Any] = {"total_steps": 10, key: value}
    with pytest.raises(UserError, match=rf"lr_scheduler.{key}: {value} is not allowed"):
        WarmUp(optimizer(), **settings)


@pytest.mark.parametrize(
    ("max_epochs", "max_steps", "expected"),
    [(3, -1, 30), (None, 7, 7), (3, 7, 7), (1, 50, 10), (-1, 50, 50)],
)
def test_whichever_limit_comes_first_ends_the_run(
    max_epochs: int | None, max_steps: int, expected: int
) -> None:
    assert total_steps(10, max_epochs, max_steps) == expected


def test_a_run_without_end_has_no_schedule() -> None:
    with pytest.raises(UserError, match=r"max_epochs and trainer.max_steps"):
        total_steps(10, -1, -1)


def test_steps_are_counted_only_where_the_schedule_needs_them() -> None:
    def never() -> int:
        raise AssertionError("asked")

    own = {"class_path": "tuner.schedule.WarmUp", "init_args": {"warmup": 2}}
    found = make_scheduler(optimizer(), own, lambda: 8)
    assert found["interval"] == "step"
    assert own["init_args"] == {"warmup": 2}, "the configuration stays as it was written"
    own["init_args"]["total_steps"] = 5
    make_scheduler(optimizer(), own, never)
    step = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 3}}
    assert make_scheduler(optimizer(), step, never)["interval"] == "step"


def test_a_plateau_schedule_watches_its_metric() -> None:
    plateau = {
        "class_path": "lightning.pytorch.cli.ReduceLROnPlateau",
        "init_args": {"monitor": "val_loss"},
    }
    assert make_scheduler(optimizer(), plateau, lambda: 1)["monitor"] == "val_loss"
    plateau["init_args"] = {"monitor": "val_los"}
    with pytest.raises(UserError, match=r"Did you mean 'val_loss'"):
        make_scheduler(optimizer(), plateau, lambda: 1)
