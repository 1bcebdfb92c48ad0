"""Checkpoints: adapter-only, exact to resume from, whole or refused."""

from __future__ import annotations

import csv
import json
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tuner.checkpoint import AtomicCheckpointIO, load_checkpoint
from tuner.cli import main
from tuner.errors import UserError
from tuner.module import ChatTuner

Fit = Callable[..., Path]
Command = Callable[..., list[str]]
# With these sizes 28 rows are learned from: 7 batches, an odd number.
LEARN = (
    "--trainer.max_epochs=2",
    "--optimizer.lr=0.01",
    "--data.val_size=4",
    "--data.test_size=8",
)


def state(run: Path, name: str = "last") -> dict[str, Any]:
    return load_checkpoint(run / "checkpoints" / f"{name}.ckpt")


def losses(run: Path) -> dict[int, float]:
    with (run / "metrics.csv").open() as file:
        return {
            int(r["step"]): float(r["train_loss"]) for r in csv.DictReader(file) if r["train_loss"]
        }


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
def done(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, rows_file: Any) -> Path:
    """A finished run of two steps, to spoil copies of its checkpoint."""
    root = tmp_path_factory.mktemp("done")
    options = [
        f"--model.base={tiny_base}",
        "--data.source=Conversations",
        f"--data.source.path={rows_file(40)}",
        f"--trainer.default_root_dir={root}",
        "--trainer.accelerator=cpu",
        "--trainer.max_steps=2",
        "--trainer.enable_progress_bar=false",
        "--samples.count=0",
    ]
    assert main(["fit", *options]) == 0
    return root / "run" / "version_0"


def test_holds_the_adapter_and_its_optimiser_alone(done: Path) -> None:
    found = state(done)
    adapter = done / "adapter" / "adapter_model.safetensors"
    assert all("lora_" in name for name in found["state_dict"])
    weights = sum(t.numel() * t.element_size() for t in found["state_dict"].values())
    moments = sum(
        t.numel() * t.element_size()
        for s in found["optimizer_states"][0]["state"].values()
        for t in s.values()
    )
    assert moments == pytest.approx(2 * weights, rel=0.01)
    size = (done / "checkpoints" / "last.ckpt").stat().st_size
    # 32 kB are for names, loops and the zip: the weights of this adapter are small.
    assert size <= 1.2 * (adapter.stat().st_size + moments) + 32_000
    assert sorted(p.name for p in (done / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


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
        if stop == "sigterm" and count == done:
            os.kill(os.getpid(), signal.SIGTERM)  # Lightning stops after this batch
        if stop != "sigterm" and count == done + 1:
            raise RuntimeError("power cut") if stop == "crash" else KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ChatTuner, "training_step", training_step)
    options += ["--name=part", f"--data.num_workers={workers}"]
    args = command("fit", *options, f"--checkpoint.every_n_steps={every}")
    if stop == "sigterm":
        assert main(args) == 143
    else:
        with pytest.raises((RuntimeError, SystemExit)):
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


def test_resume_of_a_finished_run_with_more_epochs(fit: Fit) -> None:
    total = "--lr_scheduler.total_steps=14"
    whole = fit(*LEARN, total)
    fit(*LEARN, "--trainer.max_epochs=1", total, "--name=part")
    resumed = fit(*LEARN, total, "--name=part", "--ckpt_path=last")
    assert_same(state(resumed)["state_dict"], state(whole)["state_dict"])
    assert_same(state(resumed)["optimizer_states"], state(whole)["optimizer_states"])


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--model.base={other}", "made for"),
        ("--model.head=Full", "made for"),
        ("--model.head.r=4", "do not fit"),
        ("--model.head.target_modules=[q_proj]", "do not fit"),
    ],
)
def test_refuses_a_checkpoint_of_another_base_or_head(
    command: Command,
    make_base: Callable[..., Path],
    done: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    says: str,
) -> None:
    head = "--model.head=LoRA" if ".head." in option else "--trainer.max_steps=2"
    option = option.format(other=make_base(seed=1) if "other" in option else "")
    file = done / "checkpoints" / "last.ckpt"
    assert main(command("fit", head, option, f"--ckpt_path={file}")) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert "ckpt_path" in error
    assert says in error


def test_refuses_a_base_whose_weights_changed(
    command: Command, make_base: Callable[..., Path], tmp_path: Path
) -> None:
    base = make_base()
    options = (f"--model.base={base}", "--trainer.max_steps=2")
    assert main(command("fit", *options)) == 0
    other = make_base(seed=1)
    (base / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    assert main(command("fit", *options, "--ckpt_path=last")) == 2


class Payload:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


def spoil(file: Path, how: str, tmp_path: Path) -> Path:
    bad = tmp_path / "bad.ckpt"
    content = file.read_bytes()
    if how == "truncated":
        bad.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        middle = len(content) // 2
        bad.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    elif how == "text":
        bad.write_text("no checkpoint")
    elif how == "pickle":
        bad.write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    elif how == "payload":
        torch.save(load_checkpoint(file) | {"more": Payload(tmp_path / "ran")}, bad)
    elif how == "weight missing":
        found = load_checkpoint(file)
        found["state_dict"].popitem()
        torch.save(found, bad)
    elif how == "no weights":
        torch.save({"hello": 1}, bad)
    elif how == "not a dict":
        torch.save([1, 2], bad)
    return bad


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "flipped",
        "text",
        "pickle",
        "payload",
        "weight missing",
        "no weights",
        "not a dict",
        "absent",
    ],
)
@pytest.mark.parametrize("subcommand", ["fit", "validate"])
def test_refuses_a_spoilt_file(
    command: Command,
    done: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    how: str,
    subcommand: str,
) -> None:
    bad = spoil(done / "checkpoints" / "last.ckpt", how, tmp_path)
    assert main(command(subcommand, f"--ckpt_path={bad}")) == 2
    assert not (tmp_path / "ran").exists()
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert "ckpt_path" in error
    assert "Traceback" not in error


def test_a_failing_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {"tuner": {}, "state_dict": {}, "step": 1}
    io = AtomicCheckpointIO()
    file = tmp_path / "last.ckpt"
    io.save_checkpoint(old, file)

    def full(value: Any, stream: Any) -> None:
        stream.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        io.save_checkpoint(old | {"step": 2}, file)
    assert load_checkpoint(file) == old
    assert list(tmp_path.iterdir()) == [file]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file.*none\.ckpt.*last, best"):
        load_checkpoint(tmp_path / "none.ckpt")


def test_last_without_a_run(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("fit", "--ckpt_path=last", "--name=never")) == 2
    assert "no run named 'never'" in capsys.readouterr().err


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
