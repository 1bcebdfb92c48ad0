"""What goes wrong in a callback of the user's choice is a message with its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.cli import main


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        (["ModelPruning", "--trainer.callbacks.pruning_fn=l1_unstructured"], "ModelPruning: Key"),
        (["LearningRateFinder"], "LearningRateFinder: AttributeError: When using the learning"),
    ],
)
def test_a_callback_that_cannot_work_here_is_named(
    callback: list[str],
    expected: str,
    command: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command("fit", f"--trainer.callbacks={callback[0]}", *callback[1:])) == 2
    assert f"error: trainer.callbacks: {expected}" in capsys.readouterr().err


def test_a_logger_that_cannot_work_here_is_named(
    command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = [f"--trainer.logger.save_dir={tmp_path}", "--trainer.log_every_n_steps=1"]
    options += ["--trainer.logger.flush_logs_every_n_steps=0", "--trainer.max_steps=2"]
    assert main(command("fit", "--trainer.logger=CSVLogger", *options)) == 2
    assert "error: trainer.logger: CSVLogger: ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["one", "[some]"])
def test_a_chosen_logger_logs_beside_our_own(
    form: str, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    logger = "{class_path: CSVLogger, init_args: {save_dir: %s, name: mine}}" % (tmp_path / "own")
    chosen = f"[{logger}]" if "[" in form else logger
    file.write_text(f"trainer:\n  logger: {chosen}\n  log_every_n_steps: 1\n")
    assert main(command("fit", f"--config={file}", "--trainer.max_steps=1")) == 0
    assert "train_loss" in (tmp_path / "own/mine/version_0/metrics.csv").read_text()
    assert "train_loss" in next((tmp_path / "logs").glob("*/version_0/metrics.csv")).read_text()


def test_a_setting_that_is_a_member_of_an_enumeration_is_saved(fit: Callable[..., Path]) -> None:
    run = fit("--trainer.callbacks=Timer", "--trainer.max_steps=1")
    assert "interval: step" in (run / "config.yaml").read_text()
