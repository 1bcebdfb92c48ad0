"""Checkpoints: adapter-only, exact to resume from, whole or refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tuner.checkpoint import AtomicCheckpointIO, load_checkpoint
from tuner.cli import main
from tuner.errors import UserError

Fit = Callable[..., Path]
Command = Callable[..., list[str]]


def state(run: Path, name: str = "last") -> dict[str, Any]:
    return load_checkpoint(run / "checkpoints" / f"{name}.ckpt")


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
    names = sorted(p.name for p in (done / "checkpoints").iterdir())
    assert names == ["best.ckpt", "last.ckpt", "manifest.json"]


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
    with pytest.raises(UserError, match=r"last\.ckpt.*No space left.*saved before is whole"):
        io.save_checkpoint(old | {"step": 2}, file)
    assert load_checkpoint(file) == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "manifest.json"]


def test_a_disk_that_fills_up_ends_the_run_with_the_older_file_intact(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write, saves = torch.save, 0

    def fill(value: Any, stream: Any) -> None:
        nonlocal saves
        saves += 1
        if saves < 3:
            return write(value, stream)

        def full(content: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(stream, "file", SimpleNamespace(write=full, flush=lambda: None))
        return write(value, stream)

    monkeypatch.setattr(torch, "save", fill)
    assert main(command("fit", "--checkpoint.every_n_steps=1")) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert "last.ckpt: cannot write the checkpoint: No space left on device" in error
    folder = tmp_path / "logs" / "run" / "version_0" / "checkpoints"
    assert load_checkpoint(folder / "last.ckpt")["global_step"] == 2
    assert not list(folder.glob(".*"))
    monkeypatch.setattr(torch, "save", write)
    assert main(command("fit", "--ckpt_path=last")) == 0


def test_a_run_that_goes_on_is_not_resumed(
    command: Command, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = "import sys, time; from pathlib import Path; from tuner.hold import Hold; "
    holder += "lock = Hold(Path(sys.argv[1])); print(flush=True); time.sleep(60)"
    other = subprocess.Popen(
        [sys.executable, "-c", holder, str(done)], stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        other.stdout.readline()
        file = done / "checkpoints" / "last.ckpt"
        assert main(command("fit", "--trainer.max_steps=4", f"--ckpt_path={file}")) == 2
        other.kill()
    assert "another process is training this run" in capsys.readouterr().err


def test_every_file_is_in_the_manifest_under_its_checksum(done: Path) -> None:
    folder = done / "checkpoints"
    listed = json.loads((folder / "manifest.json").read_text())["checkpoints"]
    for name in ("last.ckpt", "best.ckpt"):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert {"name": name, "sha256": digest, "step": 2} in listed


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file.*none\.ckpt.*last, best"):
        load_checkpoint(tmp_path / "none.ckpt")


def test_last_without_a_run(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("fit", "--ckpt_path=last", "--name=never")) == 2
    assert "no run named 'never'" in capsys.readouterr().err
