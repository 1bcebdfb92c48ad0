"""Running out of memory ends a fit with what to change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tuner.cli import main
from tuner.module import ChatTuner
from tuner.out_of_memory import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_a_fit_says_where_and_what_to_change(
    error: Exception,
    command: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    step = ChatTuner.training_step

    def fail(self: ChatTuner, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == 2:
            raise error
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ChatTuner, "training_step", fail)
    assert main(command("fit", "--checkpoint.every_n_steps=1")) == 2
    said = capsys.readouterr().err
    assert "out of memory at step 2 with data.batch_size 4 and data.max_length 512" in said
    assert "Such a step takes" in said
    assert "activations" in said
    assert list(tmp_path.glob("logs/*/*/checkpoints/last.ckpt")), "what was saved stays"


def test_other_errors_are_left_alone(
    command: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(ChatTuner, "training_step", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(command("fit"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_a_model_that_cannot_be_made_is_told_likewise(
    command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(command("fit", "--model.head.r=100000000000")) == 2
    said = capsys.readouterr().err
    assert "model.base, model.head: out of memory while the model was being made" in said
    assert not (tmp_path / "logs").exists()
