"""The loss of an optimiser step does not depend on accumulation, padding or devices."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from tuner.backbone import load_tokenizer
from tuner.data.batching import TrainBatches
from tuner.data.datamodule import ConversationData
from tuner.data.sources.conversations import Conversations

ROOT = Path(__file__).parent.parent
FLAT = ["--lr_scheduler.decay=constant", "--lr_scheduler.warmup=0"]
# Plain gradient descent: Adam would blow up the rounding of gradients that are all but zero.
SGD = ["--optimizer=torch.optim.SGD"]
PLAIN = [*SGD, *FLAT, "--trainer.gradient_clip_val=null", "--model.head.dropout=0"]
ALL_TRAIN = ["--data.val_size=0", "--data.test_size=0"]
RATE = 0.5


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        norm = (found[name] - value).norm() / value.norm()
        # What rounding in float32 comes to in a few steps of this rate.
        assert norm < 3e-5, f"{name}: relative difference {norm:.1e}"


def reference_steps(
    base: Path, start: Path, rows: Path, batch_size: int, accumulate: int
) -> dict[str, torch.Tensor]:
    """An epoch by hand: each optimiser step one row at a time, summed, over all its tokens."""
    data = ConversationData(Conversations(str(rows)), val_size=0, test_size=0)
    encoded = data.prepare(load_tokenizer(str(base))).encoded["train"]
    plan = TrainBatches(encoded, batch_size=batch_size, accumulate=accumulate, seed=42).plan(0)[0]
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        str(start / "adapter"),
        is_trainable=True,
    )
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), lr=RATE)
    for first in range(0, len(plan), accumulate):
        step = [encoded[r] for batch in plan[first : first + accumulate] for r in batch.rows]
        total, tokens = torch.zeros(()), 0
        for row in step:
            ids = torch.tensor(row.input_ids, dtype=torch.int64)[None]
            labels = torch.tensor(row.labels, dtype=torch.int64)[0 + 1 :]
            logits = model(input_ids=ids).logits[0, :-1]
            total = total + F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
            tokens += int((labels != -100).sum())
        (total / tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {n.replace(".default.", "."): p.detach() for n, p in trained.items()}


@pytest.mark.parametrize(("batch_size", "accumulate"), [(8, 1), (2, 4), (3, 2), (1, 8)])
def test_equals_a_plain_loop_with_a_short_last_window(
    fit: Callable[..., Path],
    tiny_base: Path,
    rows_file: Callable[..., Path],
    batch_size: int,
    accumulate: int,
) -> None:
    size = [f"--data.batch_size={batch_size}", f"--trainer.accumulate_grad_batches={accumulate}"]
    start = fit(*PLAIN, "--optimizer.lr=0", *ALL_TRAIN, *size, rows=19)
    run = fit(*PLAIN, f"--optimizer.lr={RATE}", *ALL_TRAIN, *size, rows=19)
    expected = reference_steps(tiny_base, start, rows_file(19), batch_size, accumulate)
    moved = max(float((adapter(start)[n] - v).abs().max()) for n, v in expected.items())
    assert moved > 1e-3, "the reference itself must have learnt something"
    assert_close(adapter(run), expected)


def test_one_step_is_the_same_however_it_is_cut(fit: Callable[..., Path]) -> None:
    runs = [
        fit(
            *PLAIN,
            f"--optimizer.lr={RATE}",
            *ALL_TRAIN,
            f"--data.batch_size={16 // accumulate}",
            f"--trainer.accumulate_grad_batches={accumulate}",
            rows=16,
        )
        for accumulate in (1, 2, 4, 8)
    ]
    for run in runs[1:]:
        assert_close(adapter(run), adapter(runs[0]))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_equal_one(
    strategy: str, fit: Callable[..., Path], command: Callable[..., list[str]], tmp_path: Path
) -> None:
    """11 rows on two devices: the second one runs out of rows first. Activations are computed twice
    there, which both bear when no parameter goes unused and checkpointing is not reentrant."""
    options = [*PLAIN, f"--optimizer.lr={RATE}", "--data.test_size=0", "--data.val_size=5"]
    one = fit(*options, "--data.batch_size=4", rows=17)
    two = ["--data.batch_size=2", "--trainer.devices=2", f"--trainer.strategy={strategy}"]
    two += ["--model.gradient_checkpointing=true", "--name=two"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "train.py", *command("fit", *options, *two, rows=17)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    folders = list(tmp_path.glob("logs/two/version_*"))
    assert len(folders) == 1, "both processes must share one run folder"
    assert_close(adapter(folders[0]), adapter(one))
    assert last(folders[0], "val_loss") == pytest.approx(last(one, "val_loss"), rel=1e-5)


def last(folder: Path, key: str) -> float:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[key]) for row in csv.DictReader(file) if row.get(key)][-1]


def test_validation_loss_is_weighted_by_tokens(
    fit: Callable[..., Path], tiny_base: Path, rows_file: Callable[..., Path]
) -> None:
    run = fit(*PLAIN, "--optimizer.lr=0", "--data.val_size=0.4", "--data.batch_size=3", rows=30)
    data = ConversationData(Conversations(str(rows_file(30))), val_size=0.4)
    encoded = data.prepare(load_tokenizer(str(tiny_base))).encoded["val"]
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    total, tokens = 0.0, 0
    for row in encoded:
        ids = torch.tensor(row.input_ids, dtype=torch.int64)[None]
        labels = torch.tensor(row.labels, dtype=torch.int64)[1:]
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, :-1]
        total += float(F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
        tokens += int((labels != -100).sum())
    assert last(run, "val_loss") == pytest.approx(total / tokens, rel=1e-5)
    assert last(run, "val_perplexity") == pytest.approx(math.exp(total / tokens), rel=1e-4)
