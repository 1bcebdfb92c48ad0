"""run.json says how a run went, also when it went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tuner.cli import main
from tuner.module import ChatTuner

Fit = Callable[..., Path]


def test_metrics_are_those_of_the_best_and_the_last_validation(fit: Fit) -> None:
    """A rate far too high: the loss is best early, and that is what gets exported."""
    run = fit("--trainer.max_epochs=6", "--optimizer.lr=20", "--data.val_size=10")
    record = json.loads((run / "run.json").read_text())
    assert record["best"]["val_loss"] < record["last"]["val_loss"]
    assert record["best"]["step"] < record["steps"]
    assert record["exported"] == "best"
    saved = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["global_step"] == record["best"]["step"]


def test_a_crash_is_written_down(
    command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: ChatTuner, *_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(ChatTuner, "on_validation_epoch_end", crash)
    with pytest.raises(RuntimeError, match="out of luck"):
        main(command("fit", "--trainer.max_epochs=1", "--name=crashed"))
    record = json.loads((tmp_path / "logs" / "crashed" / "version_0" / "run.json").read_text())
    assert record["status"] == "stopped"
    assert record["error"] == "RuntimeError: out of luck"
    assert record["examples_seen"] > 0


def test_command_and_surroundings(fit: Fit) -> None:
    run = fit("--trainer.max_steps=1")
    record = json.loads((run / "run.json").read_text())
    assert record["command"].startswith("train.py")
    # A build for GPUs says which in its own version alone.
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert record["hardware"]["precision"] == "32-true"
    assert record["hardware"]["devices"] == 1
