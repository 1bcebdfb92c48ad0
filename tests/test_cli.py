"""What a person meets at the command line: run folders, mistakes, other subcommands."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tuner.cli import main
from tuner.module import ChatTuner

ROOT = Path(__file__).parent.parent
Fit = Callable[..., Path]
Command = Callable[..., list[str]]


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "adapter_model.safetensors")


def test_run_folder_is_complete(fit: Fit, tiny_base: Path) -> None:
    run = fit("--trainer.max_epochs=2", "--samples.count=2", "--samples.max_new_tokens=4")
    found = {p.name for p in run.iterdir() if not p.name.startswith("events.out")}
    assert found >= {
        "config.yaml", "run.json", "data_card.json", "data_card.md", "metrics.csv", "loss.png",
        "samples.jsonl", "rejected.jsonl", "first_batch.json", "checkpoints", "adapter",
    }  # fmt: skip
    assert list(run.glob("events.out.tfevents.*"))
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert {p.name for p in (run / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
        "manifest.json",
    }
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json",
            "chat_template.jinja"} <= {p.name for p in (run / "adapter").iterdir()}  # fmt: skip
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["base"] == str(tiny_base)
    trained = sum(t.numel() for t in adapter(run).values())
    assert record["trainable_params"] == trained
    assert record["trainable_percent"] == pytest.approx(100 * trained / record["total_params"])
    card = json.loads((run / "data_card.json").read_text())
    assert record["examples_seen"] == 2 * card["splits"]["train"]["rows"]
    assert record["tokens_seen"] == 2 * card["splits"]["train"]["tokens"]
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 4  # two prompts after each of two validations


def test_checkpoints_hold_the_adapter_alone(fit: Fit) -> None:
    run = fit("--trainer.max_steps=2")
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert all("lora_" in name for name in saved["state_dict"])
    weights = sum(t.numel() * 4 for t in adapter(run).values())
    # AdamW keeps two moments; small files have a share of overhead that is gone in real ones.
    assert (run / "checkpoints" / "last.ckpt").stat().st_size < 1.2 * 3 * weights + 60_000


def test_saved_configuration_gives_the_same_run(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fit("--trainer.max_steps=3", "--optimizer.lr=0.01", "--model.head.r=4")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert main(["fit", "--config", str(first / "config.yaml")]) == 0
    second = first.with_name("version_1")
    one, two = adapter(first), adapter(second)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    again = yaml.safe_load((second / "config.yaml").read_text())
    assert again == yaml.safe_load((first / "config.yaml").read_text())


def test_rate_is_stepped_by_optimiser_steps_with_warm_up(fit: Fit) -> None:
    options = ["--optimizer.lr=0.1", "--lr_scheduler.warmup=4", "--lr_scheduler.decay=linear"]
    run = fit(*options, "--trainer.max_steps=8", rows=60)
    with (run / "metrics.csv").open(newline="") as file:
        rates = [float(r["lr-AdamW"]) for r in csv.DictReader(file) if r["lr-AdamW"]]
    warm = [0.1 * (step + 1) / 5 for step in range(4)]
    decay = [0.1 * (1 - step / 4) for step in range(4)]
    assert rates == pytest.approx(warm + decay)


def test_validate_test_and_predict_take_a_checkpoint(
    fit: Fit, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit("--trainer.max_steps=3")
    elsewhere = tmp_path / "logs" / "checkpoints"
    for subcommand in ("validate", "test", "predict"):
        assert main(command(subcommand, "--ckpt_path=best")) == 0
    capsys.readouterr()
    card = json.loads((run / "data_card.json").read_text())
    assert not elsewhere.exists(), "only a fit writes checkpoints"
    replies = (run / "predictions.jsonl").read_text().splitlines()
    assert len(replies) == card["splits"]["test"]["rows"]
    assert len(list(run.parent.iterdir())) == 1, "only fit makes run folders"
    lone = tmp_path / "a" / "b" / "lone.ckpt"
    lone.parent.mkdir(parents=True)
    lone.write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    assert main(command("predict", f"--ckpt_path={lone}")) == 0
    assert (run.parent / "predictions.jsonl").read_text().splitlines() == replies
    assert not list(tmp_path.glob("predictions*")), "nothing is written around a file alone"


@pytest.mark.parametrize("interval", ["00:01:00:00", "{days: 1}"])
def test_a_time_between_validations_is_a_setting_like_any_other(interval: str, fit: Fit) -> None:
    run = fit(f"--trainer.val_check_interval={interval}", "--trainer.max_steps=2")
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"


def mistakes(folder: Path) -> list[tuple[list[str], list[str]]]:
    empty, mute, typo, no_template = (folder / n for n in ("e.jsonl", "m.jsonl", "t.yaml", "base"))
    nested = folder / "n.yaml"
    nested.write_text("config: 3\n")
    empty.write_text("")
    mute.write_text('{"prompt": "Hi", "completion": ""}\n' * 3)
    typo.write_text("model:\n  head:\n    class_path: LoRA\n    init_args:\n      dropuot: 0\n")
    no_template.mkdir()
    return [
        (["--data.source.path=nothere.jsonl"], ["no such file", "nothere.jsonl"]),
        ([f"--data.source.path={empty}"], ["no rows", "e.jsonl"]),
        ([f"--data.source.path={mute}"], ["no_reply", "m.jsonl:1"]),
        (["--data.max_length=3"], ["data.max_length", "shortest"]),
        (["--model.head=LoRAa"], ["Did you mean 'LoRA'", "Full"]),
        (["--model.head.dropuot=0"], ["dropuot", "Did you mean 'dropout'"]),
        ([f"--config={typo}"], ["dropuot", "t.yaml:5", "Did you mean 'dropout'"]),
        (["--modle.base=pico"], ["Did you mean 'model.base'"]),
        (["--data.source=Doly"], ["Did you mean 'Dolly'"]),
        (["--trainer.precision=bf16-true"], ["trainer.precision", "bf16-mixed"]),
        (["--name=../x"], ["name", "not allowed"]),
        (["--ckpt_path="], ["ckpt_path", "is empty"]),
        (["--trainer.default_root_dir=s3://b/c"], ["default_root_dir", "is an address"]),
        (["--model.base=./nothere"], ["model.base", "no such folder", "pico"]),
        ([f"--model.base={no_template}"], ["model.base", "cannot load"]),
        (["--model.from_scratch=true"], ["model.from_scratch", "Full"]),
        (["--ckpt_path=last"], ["no run"]),
        (["--trainer.max_epochs=abc"], ["trainer.max_epochs", "int"]),
        (["--config=nothere.yaml"], ["no such file"]),
        (["--model.head.r=0"], ["model.head.r: 0 is not allowed"]),
        (["--model.head.dropout=1.5"], ["model.head.dropout: 1.5 is not allowed"]),
        (["--optimizer.lr=-1"], ["optimizer", "-1.0"]),
        (["--optimizer.lr=1e38"], ["optimizer, lr_scheduler: ", "overflow"]),
        (["--optimizer=torch.optim.SparseAdam"], ["optimizer, lr_scheduler: ", "SparseAdam"]),
        (["--optimizer.fused=true", "--optimizer.foreach=true"], ["optimizer", "foreach"]),
        (["--lr_scheduler=StepLR", "--lr_scheduler.step_size=0"], ["optimizer, lr_scheduler"]),
        (["--trainer.check_val_every_n_epoch=0"], ["trainer.check_val_every_n_epoch: 0"]),
        (["--lr_scheduler.warmup=-1"], ["lr_scheduler.warmup"]),
        (
            [
                "--lr_scheduler=ReduceLROnPlateau",
                "--lr_scheduler.monitor=val_loss",
                "--data.val_size=0",
            ],
            ["lr_scheduler.monitor", "data.val_size", "no validation"],
        ),
        (["--trainer.gradient_clip_val=-1"], ["trainer.gradient_clip_val: -1"]),
        (["--trainer.max_time=99999999999:00:00:00"], ["trainer: ", "too large"]),
        (["--trainer.max_time={days: -1}"], ["trainer.max_time", "nothing to train"]),
        ([f"--config={nested}"], ["config: a recipe names no other"]),
        (["--trainer.max_steps=0"], ["trainer.max_steps", "nothing to train"]),
        (["--trainer.max_steps=-5"], ["trainer", "max_steps"]),
        (["--trainer.max_epochs=-1"], ["max_epochs and trainer.max_steps"]),
        (["--trainer.overfit_batches=2"], ["trainer.overfit_batches"]),
        (["--trainer.accumulate_grad_batches=0"], ["trainer.accumulate_grad_batches: 0"]),
        ([f"--trainer.accumulate_grad_batches={10**21}"], ["grad_batches: 1000", "2,147,483,647"]),
        (["--data.num_workers=100000"], ["data.num_workers: 100000", "or fewer"]),
        (
            [
                "--lr_scheduler=OneCycleLR",
                "--lr_scheduler.max_lr=1",
                "--lr_scheduler.total_steps=2",
            ],
            ["lr_scheduler.total_steps", "ends after 2 steps"],
        ),
        (
            [
                "--trainer.callbacks=GradientAccumulationScheduler",
                '--trainer.callbacks.scheduling={"0": 2}',
            ],
            ["GradientAccumulationScheduler is not supported"],
        ),
        (["--trainer.val_check_interval=5000"], ["trainer.val_check_interval: 5000"]),
        (
            ["--trainer.val_check_interval={seconds: -1}"],
            ["val_check_interval: -1 seconds are not"],
        ),
        (["--trainer.limit_val_batches=-1"], ["limit_val_batches"]),
        (["--trainer.devices=0"], ["trainer", "devices"]),
        (["--trainer.accelerator=tpuu"], ["trainer", "tpuu"]),
        (["--trainer.strategy=nonsense"], ["trainer", "nonsense"]),
        (["--seed_everything=-1"], ["seed_everything", "-1"]),
        (["--ckpt_path=nofile.ckpt"], ["ckpt_path", "nofile.ckpt"]),
        ([f"--ckpt_path={mute}"], ["m.jsonl"]),
        ([f"--config={empty}"], ["e.jsonl", "expected keys"]),
        ([f"--config={no_template}"], ["is a folder"]),
    ]


@pytest.mark.parametrize("case", range(48))
def test_mistakes_get_one_message_and_leave_nothing(
    case: int,
    command: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options, words = mistakes(tmp_path)[case]
    monkeypatch.setattr(sys, "argv", ["train.py", *options[0].split("=")])
    assert main(command("fit", *options)) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    assert "Traceback" not in error
    for word in words:
        assert word in error
    assert not (tmp_path / "logs").exists()


def test_base_without_a_chat_template_is_refused(
    command: Command,
    make_base: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    base = make_base()
    (base / "chat_template.jinja").unlink()
    assert main(command("fit", f"--model.base={base}")) == 2
    assert "no chat template" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_unreachable_hub_names_the_ways_out(tmp_path: Path) -> None:
    # The hub client waits 23 seconds between its retries; nobody has to wait for them here.
    at_once = "import time; time.sleep = lambda _: None; exec(open('train.py').read())"
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "home")}
    for options, words in (
        (["--model.base", "pico"], ["data.source.path"]),
        ([], ["model.base", "pico", "make demo"]),
    ):
        command = [sys.executable, "-c", at_once, "fit", "--config", "configs/lora.yaml", *options]
        command += ["--trainer.default_root_dir", str(tmp_path / "logs")]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 2, done.stderr[-2000:]
        assert "Traceback" not in done.stderr
        for word in words:
            assert word in done.stderr
    assert not (tmp_path / "logs").exists()


def test_secrets_stay_out_of_the_run(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canarycanarycanary")
    run = fit("--trainer.max_steps=1")
    files: list[Any] = [p for p in run.rglob("*") if p.is_file()]
    assert not [p for p in files if b"canarycanary" in p.read_bytes()]


def test_replies_of_before_stay_until_the_new_ones_are_whole(
    fit: Fit, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit("--trainer.max_steps=2")
    args = command("predict", f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}")
    (run / "predictions.jsonl").write_text("before")

    def fail(*_: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr("tuner.module.ChatTuner.predict_step", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        main(args)
    assert (run / "predictions.jsonl").read_text() == "before"


@pytest.mark.parametrize("step", [2, 4])
def test_a_run_whose_folder_is_removed_says_so(
    step: int,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In mid-run and at the last step, where nothing but the export is left."""
    original = ChatTuner.training_step

    def training_step(self: ChatTuner, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == step - 1:
            shutil.rmtree(tmp_path / "logs")
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ChatTuner, "training_step", training_step)
    assert main(command("fit", "--trainer.max_steps=4")) == 2
    assert "was removed while it was being written" in capsys.readouterr().err
    assert not list(tmp_path.glob("logs/*/*/adapter"))
