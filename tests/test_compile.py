"""Compiled blocks compute what others do."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.checkpoint import load_checkpoint
from tuner.cli import main

# Compiled code draws other dropout.
LEARN = (
    "--trainer.max_epochs=1",
    "--optimizer.lr=0.01",
    "--data.test_size=0",
    "--model.head.dropout=0",
)


@pytest.mark.slow  # half a minute to compile
@pytest.mark.parametrize("more", [(), ("--model.gradient_checkpointing=true",)])
def test_losses_are_the_same_and_names_stay(
    fit: Callable[..., Path], more: tuple[str, ...]
) -> None:
    plain, compiled = (fit(*LEARN, *more, f"--model.compile={c}") for c in ("false", "true"))
    losses = []
    for run in (plain, compiled):
        with (run / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        losses.append([float(r["train_loss"]) for r in rows if r["train_loss"]])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, two = (load_checkpoint(run / "checkpoints" / "last.ckpt") for run in (plain, compiled))
    assert one["state_dict"].keys() == two["state_dict"].keys()


def test_a_machine_without_a_compiler_is_told(
    command: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(command("fit", "--model.compile=true")) == 2
    assert "model.compile: there is no C++ compiler" in capsys.readouterr().err
