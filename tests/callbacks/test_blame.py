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


def test_a_setting_that_is_a_member_of_an_enumeration_is_saved(fit: Callable[..., Path]) -> None:
    run = fit("--trainer.callbacks=Timer", "--trainer.max_steps=1")
    assert "interval: step" in (run / "config.yaml").read_text()
