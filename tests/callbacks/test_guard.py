"""Steps that are not finite change nothing, are named, and end a run that has too many."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tuner.checkpoint import load_checkpoint
from tuner.cli import main
from tuner.module import ChatTuner

Fit = Callable[..., Path]
Command = Callable[..., list[str]]
NAN = float("nan")
LONG = ("--trainer.max_epochs=1", "--data.val_size=8", "--data.test_size=0", "--optimizer.lr=0.01")


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Spoils the loss of chosen batches; gives what each batch was and the weights before it."""

    def prepare(bad: Callable[[int], bool], factor: float = NAN) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        step = ChatTuner.training_step

        def training_step(self: ChatTuner, batch: Any, batch_idx: int) -> Any:
            weights = {name: p.detach().clone() for name, p in self.trainable().items()}
            examples = self._data().curated.splits["train"]  # pyright: ignore
            seen.append({"ids": [examples[r].id for r in batch["rows"]], "weights": weights})
            found = step(self, batch, batch_idx)
            if bad(len(seen)):
                found["loss"] = found["loss"] * factor
            return found

        monkeypatch.setattr(ChatTuner, "training_step", training_step)
        return seen

    return prepare


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("factor", [NAN, float("inf")])
def test_a_bad_step_changes_nothing_and_its_rows_are_named(
    fit: Fit, spoil: Callable[..., list[dict[str, Any]]], factor: float
) -> None:
    seen = spoil(lambda batch: batch == 3, factor)
    with pytest.warns(UserWarning, match=r"step 2: loss or gradients are not finite .*skipped"):
        run = fit(*LONG)
    assert not same(seen[1]["weights"], seen[2]["weights"])
    assert same(seen[2]["weights"], seen[3]["weights"])
    assert not same(seen[3]["weights"], seen[4]["weights"])
    record = json.loads((run / "run.json").read_text())
    assert record["skipped_steps"] == [{"step": 2, "rows": seen[2]["ids"]}]
    assert record["steps"] == len(seen)


def test_only_the_bad_batch_of_a_step_is_named(
    fit: Fit, spoil: Callable[..., list[dict[str, Any]]]
) -> None:
    seen = spoil(lambda batch: batch == 4)
    with pytest.warns(UserWarning, match="not finite"):
        run = fit(*LONG, "--trainer.accumulate_grad_batches=2")
    record = json.loads((run / "run.json").read_text())
    assert record["skipped_steps"] == [{"step": 1, "rows": seen[3]["ids"]}]
    assert same(seen[2]["weights"], seen[4]["weights"])


def test_gradients_that_overflow_are_found_too(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = ChatTuner.configure_model
    steps = 0

    def overflow(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return gradient * float("inf") if steps == 2 else gradient

    def configure_model(self: ChatTuner) -> None:
        fresh = self.model is None
        apply(self)
        if fresh:
            next(iter(self.trainable().values())).register_hook(overflow)

    monkeypatch.setattr(ChatTuner, "configure_model", configure_model)
    with pytest.warns(UserWarning, match="step 1: .*not finite"):
        run = fit(*LONG)
    weights = load_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    assert all(w.isfinite().all() for w in weights.values())


def test_too_many_end_the_run_and_what_was_saved_is_good(
    command: Command,
    spoil: Callable[..., list[dict[str, Any]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = spoil(lambda batch: batch > 3)
    options = (*LONG, "--guard.max_skipped_steps=2", "--checkpoint.every_n_steps=1")
    with pytest.warns(UserWarning, match="not finite"):
        assert main(command("fit", *options)) == 2
    error = capsys.readouterr().err
    assert "guard.max_skipped_steps: step 5: loss or gradients are not finite" in error
    assert all(name in error for name in seen[5]["ids"])
    saved = load_checkpoint(tmp_path / "logs" / "run" / "version_0" / "checkpoints" / "last.ckpt")
    assert saved["global_step"] == 3
    assert same(saved["state_dict"], seen[3]["weights"])


def test_the_bound_holds_over_an_interruption(
    command: Command, spoil: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    seen = spoil(lambda batch: batch in (2, 6))
    options = (*LONG, "--guard.max_skipped_steps=1", "--checkpoint.every_n_steps=1")
    with pytest.warns(UserWarning, match="not finite"):
        assert main(command("fit", *options, "--trainer.max_steps=4")) == 0
    assert len(seen) == 4
    assert main(command("fit", *options, "--ckpt_path=last")) == 2
    assert len(seen) == 6


def test_a_rate_that_blows_the_weights_up_leaves_no_bad_checkpoint(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = ("--optimizer=torch.optim.SGD", "--optimizer.lr=1e38", "--lr_scheduler.warmup=0")
    options = (*LONG, *rate, "--trainer.gradient_clip_val=null", "--checkpoint.every_n_steps=1")
    with pytest.warns(UserWarning, match="not finite"):
        assert main(command("fit", *options, "--guard.max_skipped_steps=3")) == 2
    assert "error:" in capsys.readouterr().err
    for file in tmp_path.glob("logs/run/version_0/checkpoints/*.ckpt"):
        weights = load_checkpoint(file)["state_dict"]
        assert all(w.isfinite().all() for w in weights.values())


def test_a_validation_that_is_not_finite_is_never_the_best(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ChatTuner._log_eval
    count = 0

    def first_is_nan(self: ChatTuner, split: str) -> None:
        nonlocal count
        count += 1
        if count == 1:
            self.eval_loss.update(NAN, weight=1)
        log(self, split)

    monkeypatch.setattr(ChatTuner, "_log_eval", first_is_nan)
    run = fit(*LONG, "--trainer.max_epochs=3")
    assert count == 3
    best = load_checkpoint(run / "checkpoints" / "best.ckpt")
    record = json.loads((run / "run.json").read_text())
    assert best["global_step"] == record["best"]["step"] > record["steps"] // 3


def test_a_negative_bound_is_refused(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("fit", "--guard.max_skipped_steps=-1")) == 2
    assert "guard.max_skipped_steps: -1" in capsys.readouterr().err
