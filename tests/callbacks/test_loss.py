"""The training loss that is shown is that of the whole optimiser step."""

from __future__ import annotations

import csv
import gc
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from tuner.backbone import load_tokenizer
from tuner.callbacks.loss import (
    FINEST,
    Curve,
    Picture,
    _smooth,  # pyright: ignore[reportPrivateUsage]
)
from tuner.cli import main
from tuner.data.batching import TrainBatches
from tuner.data.datamodule import ConversationData
from tuner.data.sources.conversations import Conversations
from tuner.module import ChatTuner

Fit = Callable[..., Path]
FROZEN = ["--optimizer.lr=0", "--model.head.dropout=0", "--data.val_size=0", "--data.test_size=0"]


def column(run: Path, name: str) -> dict[int, float]:
    with (run / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row[name]}


def test_equals_the_loss_of_each_step_by_hand(
    fit: Fit, tiny_base: Path, rows_file: Callable[..., Path]
) -> None:
    """With a rate of 0 the adapter stays nothing, so the plain base tells every step's loss."""
    run = fit(*FROZEN, "--trainer.accumulate_grad_batches=3", "--trainer.max_epochs=1", rows=34)
    found = column(run, "train_loss")
    data = ConversationData(Conversations(str(rows_file(34))), val_size=0, test_size=0)
    encoded = data.prepare(load_tokenizer(str(tiny_base))).encoded["train"]
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    plan = TrainBatches(encoded, batch_size=4, accumulate=3, seed=42).plan(0)[0]
    expected: list[float] = []
    for first in range(0, len(plan), 3):
        total, tokens = 0.0, 0
        for row in [r for batch in plan[first : first + 3] for r in batch.rows]:
            ids = torch.tensor(encoded[row].input_ids, dtype=torch.int64)[None]
            labels = torch.tensor(encoded[row].labels, dtype=torch.int64)[None]
            count = int((labels != -100).sum())
            with torch.no_grad():
                total += float(model(input_ids=ids, labels=labels).loss) * count
            tokens += count
        expected.append(total / tokens)
    assert len(expected) == 3, "the last step is a short one"
    assert list(found.values()) == pytest.approx(expected, rel=1e-5)


def test_tensorboard_and_the_table_hold_the_same_curves(fit: Fit) -> None:
    run = fit("--trainer.max_epochs=2", "--samples.count=2", "--samples.max_new_tokens=4")
    events = EventAccumulator(str(run))
    events.Reload()
    for name in ("train_loss", "val_loss", "val_perplexity", "sample_rougeL", "sample_bleu"):
        drawn = {e.step: e.value for e in events.Scalars(name)}
        written = column(run, name)
        assert drawn.keys() == written.keys() != set()
        assert list(drawn.values()) == pytest.approx(list(written.values()))
    losses, perplexities = column(run, "val_loss"), column(run, "val_perplexity")
    for step, loss in losses.items():
        assert perplexities[step] == pytest.approx(math.exp(loss), rel=1e-5)


def test_smoothing_starts_unbiased_and_keeps_a_constant() -> None:
    assert [loss for _, loss in _smooth([(1, 2.0), (2, 2.0), (3, 2.0)])] == pytest.approx([2.0] * 3)
    assert _smooth([(7, 5.0), (9, 1.0)])[0] == (7, 5.0)


@pytest.mark.parametrize("steps", [1, FINEST, 2 * FINEST - 1, 2 * FINEST, 50_001])
def test_a_curve_is_the_means_of_equal_stretches_however_long(steps: int) -> None:
    curve = Curve()
    losses = [math.sin(step) for step in range(1, steps + 1)]
    for step, loss in enumerate(losses, start=1):
        curve.add(step, loss)
    assert min(steps, FINEST) <= len(curve.points) < 2 * FINEST
    stretch = curve.points[0][0]
    assert len(curve.points) == steps // stretch
    for place, (step, mean) in enumerate(curve.points):
        assert step == stretch * (place + 1)
        assert mean == pytest.approx(math.fsum(losses[step - stretch : step]) / stretch, abs=1e-12)


def test_a_loss_that_is_not_finite_is_left_out_of_a_curve() -> None:
    curve = Curve()
    for step, loss in enumerate((1.0, math.nan, math.inf, 2.0)):
        curve.add(step, loss)
    assert curve.points == [(0, 1.0), (3, 2.0)]


def test_a_plot_is_drawn_without_validation(tmp_path: Path) -> None:
    Picture().draw([(1, 3.0), (2, 2.0)], [], tmp_path / "loss.png")
    assert (tmp_path / "loss.png").stat().st_size > 5000


def test_a_picture_shows_what_there_is_by_now_and_leaves_nothing(tmp_path: Path) -> None:
    curve = [(step, 5 / (step + 1)) for step in range(50)]
    picture, first, last = Picture(), tmp_path / "first.png", tmp_path / "last.png"
    picture.draw(curve[:10], [(5, 9.0)], first)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for points in range(10, 51):
            picture.draw(curve[:points], [(5, 2.0)], last)
        assert len(gc.get_objects()) - before < 40 * 100, "a figure is thousands"
    finally:
        gc.enable()
    Picture().draw(curve, [(5, 2.0)], first)
    assert first.read_bytes() == last.read_bytes()


def test_a_run_that_fails_has_a_picture_of_what_there_was(
    command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ChatTuner.training_step

    def fail(self: ChatTuner, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 3:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ChatTuner, "training_step", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        main(command("fit"))
    (picture,) = tmp_path.rglob("loss.png")
    assert picture.stat().st_size > 5000


@pytest.mark.parametrize(("pause", "drawn"), [(math.inf, [2]), (0, [1, 2, 2])])
def test_a_picture_is_drawn_now_and_then_and_at_the_end(
    pause: float, drawn: list[int], fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    validations: list[int] = []

    def draw(_: object, train: object, val: list[tuple[int, float]], file: Path) -> None:
        validations.append(len(val))
        file.touch()

    monkeypatch.setattr("tuner.callbacks.loss.PAUSE", pause)
    monkeypatch.setattr("tuner.callbacks.loss.Picture.draw", draw)
    run = fit("--trainer.max_epochs=2")
    assert (run / "loss.png").exists()
    assert validations == drawn
