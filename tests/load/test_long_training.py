"""A long training keeps nothing of its steps but what a person reads: memory, files and logs."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from lightning.pytorch import Callback, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tuner.cli import TunerCLI
from tuner.overview import overview
from tuner.runs import read_losses
from tuner.tools.runs import main as runs

PAIRS = ("hidden_size", "intermediate_size"), ("num_attention_heads", "num_key_value_heads")
TINY = dict.fromkeys(PAIRS[0], 8) | dict.fromkeys((*PAIRS[1], "num_hidden_layers"), 1)


class Watch(Callback):
    """Notes what the process holds after a quarter of the steps and at the end.

    Args:
        steps: of the run.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.found: list[dict[str, int]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step not in (self.steps // 4, self.steps):
            return
        gc.collect()
        memory = Path("/proc/self/status").read_text().partition("RssAnon:")[2]
        folder = Path(trainer.log_dir)
        self.found.append(
            {
                "objects": len(gc.get_objects()),
                "kib": int(memory.split()[0]),
                "open": len(os.listdir("/proc/self/fd")),
                "files": sum(file.is_file() for file in folder.rglob("*")),
            }
        )


@pytest.mark.parametrize("steps", [300, pytest.param(100_000, marks=pytest.mark.soak)])
def test_what_a_run_holds_does_not_grow_with_its_steps(
    fit: Callable[..., Path],
    make_base: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    figures: Callable[..., None],
    steps: int,
) -> None:
    """A step is a row of a base that is next to nothing; some 8 hours have as many real ones."""
    watch = Watch(steps)
    real = TunerCLI.instantiate_trainer

    def watched(cli: TunerCLI, **options: Any) -> Trainer:
        trainer = real(cli, **options)
        cast("list[Callback]", trainer.callbacks).append(watch)  # beside all that a run has
        return trainer

    monkeypatch.setattr(TunerCLI, "instantiate_trainer", watched)
    validations = 5 if steps < 1000 else 50
    run = fit(
        f"--model.base={make_base(**TINY)}", "--model.head=LNTuning", "--data.batch_size=1",
        f"--trainer.max_steps={steps}", "--trainer.max_epochs=-1", "--data.val_size=2",
        f"--trainer.val_check_interval={steps // validations}",
        "--trainer.check_val_every_n_epoch=null", "--trainer.log_every_n_steps=10",
        f"--checkpoint.every_n_steps={min(steps // 20, 200)}",
        "--trainer.enable_progress_bar=true", "--samples.count=2", "--samples.max_new_tokens=2",
    )  # fmt: skip
    printed = sum(map(len, capfd.readouterr()))
    early, late = watch.found
    # What a validation leaves may grow: a point of its curve, no more.
    assert late["objects"] - early["objects"] < 150 + 10 * validations
    assert late["kib"] - early["kib"] < 16 * 1024
    assert late["open"] <= early["open"]
    assert late["files"] == early["files"]
    events = sum(file.stat().st_size for file in run.glob("events.out.tfevents.*"))
    sizes = {name: (run / name).stat().st_size for name in ("metrics.csv", "samples.jsonl")}
    assert sizes["metrics.csv"] < 15 * steps + 2_000 * validations
    assert events < 45 * steps + 10_000 * validations
    assert sizes["samples.jsonl"] < 2_000 * validations
    assert printed < 20_000, "a log that a run is started into"
    assert (run / "loss.png").stat().st_size < 500_000

    losses = read_losses(run)
    assert [step for step, _ in losses["train"]] == list(range(9, steps, 10))
    assert len(losses["val"]) == validations
    (row,) = overview(run.parent.parent)
    assert row["status"] == "finished"
    assert row["steps"] == steps
    assert runs([f"--logs={run.parent.parent}"]) == 0
    assert str(run.parent.name) in capfd.readouterr().out
    board = EventAccumulator(str(run), {"scalars": 0})
    board.Reload()
    assert [e.step for e in board.Scalars("train_loss")] == [step for step, _ in losses["train"]]
    figures(
        "load", "steps of a run; its memory after a quarter of them and at the end", steps,
        mib_early=round(early["kib"] / 1024), mib_late=round(late["kib"] / 1024),
        objects_more=late["objects"] - early["objects"], files=late["files"],
        metrics_kib=sizes["metrics.csv"] // 1024, tensorboard_kib=events // 1024,
        samples_kib=sizes["samples.jsonl"] // 1024, printed_characters=printed,
    )  # fmt: skip
