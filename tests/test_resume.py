"""A run that was interrupted ends as the one that never was."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tuner.callbacks.samples import SampleReplies
from tuner.checkpoint import load_checkpoint
from tuner.cli import main
from tuner.module import ChatTuner

Fit = Callable[..., Path]
Command = Callable[..., list[str]]
SIGNALS = {"ctrl-c": signal.SIGINT, "sigterm": signal.SIGTERM}
# With these sizes 28 rows are learned from: 7 batches, an odd number.
LEARN = (
    "--trainer.max_epochs=2",
    "--optimizer.lr=0.01",
    "--data.val_size=4",
    "--data.test_size=8",
)


def state(run: Path, name: str = "last") -> dict[str, Any]:
    return load_checkpoint(run / "checkpoints" / f"{name}.ckpt")


def metrics(run: Path, key: str) -> dict[int, float]:
    with (run / "metrics.csv").open() as file:
        return {int(r["step"]): float(r[key]) for r in csv.DictReader(file) if r.get(key)}


def losses(run: Path) -> dict[int, float]:
    return metrics(run, "train_loss")


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.fixture(scope="module")
def whole_runs() -> dict[int, Path]:
    """Uninterrupted runs by their accumulation: each is needed more than once."""
    return {}


@pytest.mark.parametrize(
    ("stop", "where", "accumulate", "workers"),
    [
        ("crash", "mid-epoch", 1, 0),
        ("crash", "mid-epoch", 2, 0),
        ("crash", "epoch-end", 2, 0),
        ("crash", "mid-window", 2, 0),
        ("crash", "mid-epoch", 1, 1),
        ("crash", "epoch-end", 1, 1),
        ("ctrl-c", "mid-epoch", 1, 0),
        ("ctrl-c", "epoch-end", 1, 0),
        ("ctrl-c", "mid-window", 2, 0),
        ("sigterm", "mid-epoch", 1, 0),
        ("sigterm", "epoch-end", 2, 0),
        ("sigterm", "mid-window", 2, 0),
    ],
)
def test_resume_is_bit_identical(
    fit: Fit,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole_runs: dict[int, Path],
    stop: str,
    where: str,
    accumulate: int,
    workers: int,
) -> None:
    options = [*LEARN, f"--trainer.accumulate_grad_batches={accumulate}"]
    if accumulate not in whole_runs:
        whole_runs[accumulate] = fit(*options, "--name=whole")
    whole = whole_runs[accumulate]
    rows = json.loads((whole / "data_card.json").read_text())["splits"]["train"]["rows"]
    batches = -(-rows // 4)
    assert batches == 7  # odd: with accumulation, the last window of an epoch is short
    assert len(losses(whole)) == 2 * -(-batches // accumulate)
    done = {"mid-epoch": 4, "epoch-end": batches, "mid-window": 5}[where]
    every = 1 if stop == "crash" else 200  # a crash leaves the last periodic save alone
    step = ChatTuner.training_step
    count = 0

    def training_step(self: ChatTuner, batch: Any, batch_idx: int) -> Any:
        nonlocal count
        count += 1
        if stop in SIGNALS and count == done:
            os.kill(os.getpid(), SIGNALS[stop])  # Lightning stops after this batch
        if stop not in SIGNALS and count == done + 1:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ChatTuner, "training_step", training_step)
    options += ["--name=part", f"--data.num_workers={workers}"]
    args = command("fit", *options, f"--checkpoint.every_n_steps={every}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by workers of pytest
    if stop in SIGNALS:
        assert main(args) == 128 + SIGNALS[stop]
    else:
        with pytest.raises(RuntimeError, match="power cut"):
            main(args)
    monkeypatch.setattr(ChatTuner, "training_step", step)
    assert main(command("fit", *options, "--ckpt_path=last")) == 0
    first, resumed = (tmp_path / "logs" / "part" / f"version_{n}" for n in (0, 1))
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert_same(state(resumed)[key], state(whole)[key])
    assert state(resumed)["callbacks"]["Throughput"]["examples"] == 2 * rows
    assert losses(first) | losses(resumed) == losses(whole)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        file = Path("adapter") / name
        assert (resumed / file).read_bytes() == (whole / file).read_bytes()


def test_what_was_logged_up_to_a_checkpoint_is_on_disk(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed has no time to write it; the next one goes on behind it."""
    step = ChatTuner.training_step
    seen: list[dict[int, float]] = []

    def training_step(self: ChatTuner, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == 4:
            seen.append(losses(tmp_path / "logs" / "run" / "version_0"))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ChatTuner, "training_step", training_step)
    run = fit(*LEARN, "--name=run", "--checkpoint.every_n_steps=4")
    assert seen == [{at: loss for at, loss in losses(run).items() if at < 4}]
    assert len(seen[0]) == 4


def test_resume_of_a_finished_run_with_more_epochs(fit: Fit) -> None:
    total = "--lr_scheduler.total_steps=14"
    whole = fit(*LEARN, total)
    fit(*LEARN, "--trainer.max_epochs=1", total, "--name=part")
    resumed = fit(*LEARN, total, "--name=part", "--ckpt_path=last")
    assert_same(state(resumed)["state_dict"], state(whole)["state_dict"])
    assert_same(state(resumed)["optimizer_states"], state(whole)["optimizer_states"])


@pytest.mark.parametrize(("first", "accumulate"), [(3, 1), (5, 1), (2, 2)])
def test_a_run_that_stopped_at_max_steps_goes_on_in_mid_epoch(
    fit: Fit, first: int, accumulate: int
) -> None:
    flat = ["--lr_scheduler.decay=constant", f"--trainer.accumulate_grad_batches={accumulate}"]
    straight = fit(*flat, "--trainer.max_steps=9", "--trainer.max_epochs=3", "--name=straight")
    fit(*flat, f"--trainer.max_steps={first}", "--trainer.max_epochs=3", "--name=cut")
    resumed = fit(
        *flat, "--trainer.max_steps=9", "--trainer.max_epochs=3", "--name=cut", "--ckpt_path=last"
    )
    one, two = (
        load_file(run / "adapter" / "adapter_model.safetensors") for run in (straight, resumed)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    seen = [
        json.loads((run / "run.json").read_text())["tokens_seen"] for run in (straight, resumed)
    ]
    assert seen[0] == seen[1]


def test_a_run_at_its_end_is_not_resumed(
    fit: Fit, command: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fit("--trainer.max_epochs=1", "--name=done")
    assert main(command("fit", "--trainer.max_epochs=1", "--name=done", "--ckpt_path=last")) == 2
    assert "raise trainer.max_epochs or trainer.max_steps" in capsys.readouterr().err
    assert len(list((tmp_path / "logs" / "done").iterdir())) == 1


# Each validation halves the rate: whatever the loss is, it is not below zero.
HALVING = (
    "--lr_scheduler=ReduceLROnPlateau",
    "--lr_scheduler.monitor=val_loss",
    "--lr_scheduler.factor=0.5",
    "--lr_scheduler.patience=0",
    "--lr_scheduler.threshold=1",
)
# Validations after batches 3 and 6 of an epoch of 7; the loss of a high rate jumps up and down,
# so that the best one lies anywhere.
VALIDATING = (
    *HALVING,
    "--trainer.max_epochs=2",
    "--trainer.val_check_interval=3",
    "--optimizer.lr=0.3",
    "--data.val_size=8",
    "--data.test_size=4",
    "--data.batch_size=4",
    "--samples.count=2",
    "--samples.max_new_tokens=4",
)


@pytest.mark.parametrize(
    ("stop", "where", "validation"),
    [
        ("crash", "validation", 1),
        ("crash", "generation", 2),
        ("crash", "last batch", 4),
        ("crash", "after", 3),
        ("sigterm", "validation", 2),
        ("sigterm", "last batch", 3),
        ("sigterm", "generation", 4),
        ("sigterm", "after", 4),  # in the last batch of all: what is left to do is the export
    ],
)
def test_a_stop_in_a_validation_loses_neither_it_nor_the_best(
    fit: Fit,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    validating_run: list[Path],
    stop: str,
    where: str,
    validation: int,
) -> None:
    """Stops in the n-th validation, at its first or last batch, in its samples, or behind it."""
    whole = validating_run[0] if validating_run else fit(*VALIDATING, "--name=whole")
    validating_run[:] = [whole]
    rates = metrics(whole, "lr-AdamW")
    assert [rates[step] / 0.3 for step in sorted(rates)] == [
        *(3 * [1] + 3 * [1 / 2] + [1 / 4]),
        *(3 * [1 / 4] + 3 * [1 / 8] + [1 / 16]),
    ]
    began = 0

    def strike() -> None:
        if stop == "crash":
            raise RuntimeError("power cut")
        os.kill(os.getpid(), signal.SIGTERM)

    step, sample, train = (
        ChatTuner.validation_step,
        SampleReplies._generate,
        ChatTuner.training_step,
    )

    def validation_step(self: ChatTuner, batch: Any, batch_idx: int) -> Any:
        nonlocal began
        began += batch_idx == 0
        if began == validation and where == {0: "validation", 1: "last batch"}[batch_idx]:
            strike()
        return step(self, batch, batch_idx)

    def generate(self: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if began == validation and where == "generation":
            strike()
        sample(self, trainer, *args, **kwargs)
        assert not trainer.received_sigterm, "the generation went on to its end"

    def training_step(self: ChatTuner, batch: Any, batch_idx: int) -> Any:
        if began == validation and where == "after":
            strike()
        return train(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ChatTuner, "validation_step", validation_step)
        patch.setattr(ChatTuner, "training_step", training_step)
        patch.setattr(SampleReplies, "_generate", generate)
        args = command("fit", *VALIDATING, "--name=part")
        if stop == "crash":
            with pytest.raises(RuntimeError, match="power cut"):
                main(args)
        else:
            assert main(args) == 143
    assert main(command("fit", *VALIDATING, "--name=part", "--ckpt_path=last")) == 0
    first, resumed = (tmp_path / "logs" / "part" / f"version_{n}" for n in (0, 1))
    for name in ("last", "best"):
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
            assert_same(state(resumed, name)[key], state(whole, name)[key])
    both = metrics(first, "val_loss") | metrics(resumed, "val_loss")
    assert both == metrics(whole, "val_loss")
    assert losses(first) | losses(resumed) == losses(whole)
    file = Path("adapter") / "adapter_model.safetensors"
    assert (resumed / file).read_bytes() == (whole / file).read_bytes()
    records = [json.loads((run / "run.json").read_text()) for run in (whole, resumed)]
    assert records[0]["best"]["step"] == records[1]["best"]["step"]


@pytest.fixture(scope="module")
def validating_run() -> list[Path]:
    """The uninterrupted run, once it has been made."""
    return []


@pytest.mark.parametrize(
    "stops",
    [
        # (hook, its n-th call in this part of the run, how); 8 batches an epoch.
        [("training_step", 9, "crash"), ("training_step", 3, "crash")],
        [("training_step", 8, "sigterm"), ("training_step", 3, "sigterm")],
        [
            ("validation_step", 1, "sigterm"),
            ("training_step", 5, "sigterm"),
            ("training_step", 2, "crash"),
        ],
    ],
    ids=["behind an epoch", "at its end", "from a validation"],
)
def test_a_run_that_is_stopped_again_and_again(
    fit: Fit,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stops: list[tuple[str, int, str]],
) -> None:
    """With validations that do not meet the ends of epochs."""
    options = ["--trainer.max_epochs=3", "--trainer.val_check_interval=3", "--optimizer.lr=0.01"]
    options += ["--data.val_size=8", "--data.test_size=4", "--checkpoint.every_n_steps=1"]
    options += HALVING
    whole = fit(*options, "--name=whole", rows=43)
    runs = []
    for part, (hook, call, how) in enumerate([*stops, ("training_step", 1000, "never")]):
        original, count = getattr(ChatTuner, hook), 0

        def striking(
            self: ChatTuner,
            batch: Any,
            batch_idx: int,
            original: Any = original,
            call: int = call,
            how: str = how,
        ) -> Any:
            nonlocal count
            count += 1
            if count == call and how == "crash":
                raise RuntimeError("power cut")
            if count == call:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(self, batch, batch_idx)

        resume = ["--ckpt_path=last"] if part else []
        with monkeypatch.context() as patch:
            patch.setattr(ChatTuner, hook, striking)
            args = command("fit", *options, "--name=part", *resume, rows=43)
            if how == "crash":
                with pytest.raises(RuntimeError, match="power cut"):
                    main(args)
            else:
                assert main(args) == (143 if how == "sigterm" else 0)
        runs.append(tmp_path / "logs" / "part" / f"version_{part}")
    for key in ("train_loss", "val_loss"):
        found: dict[int, float] = {}
        for run in runs:
            found |= metrics(run, key)
        assert found == metrics(whole, key)
    file = Path("adapter") / "adapter_model.safetensors"
    assert (runs[-1] / file).read_bytes() == (whole / file).read_bytes()
