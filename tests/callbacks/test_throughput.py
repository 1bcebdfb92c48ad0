"""Counts of examples and tokens: exact, padding apart, and kept over a resume."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from tuner.callbacks.throughput import Throughput, peak_memory_mib

Fit = Callable[..., Path]


def test_counts_go_on_after_a_resume(fit: Fit) -> None:
    first = fit("--trainer.max_epochs=1")
    second = fit("--trainer.max_epochs=2", "--ckpt_path=last")
    one, two = (json.loads((run / "run.json").read_text()) for run in (first, second))
    assert two["examples_seen"] == 2 * one["examples_seen"]
    assert two["tokens_seen"] == 2 * one["tokens_seen"]
    assert two["training_seconds"] > one["training_seconds"] > 0
    assert two["resumed_from"].endswith("version_0/checkpoints/last.ckpt")


def test_every_step_is_in_the_table(fit: Fit) -> None:
    run = fit("--trainer.max_epochs=1", "--trainer.accumulate_grad_batches=2")
    with (run / "metrics.csv").open(newline="") as file:
        tokens = [float(row["tokens_seen"]) for row in csv.DictReader(file) if row["tokens_seen"]]
    assert tokens == sorted(tokens)
    assert tokens[-1] == json.loads((run / "run.json").read_text())["tokens_seen"]


def test_nothing_seen_is_no_speed() -> None:
    assert Throughput().tokens_per_second == 0
    assert 100 < peak_memory_mib() < 1_000_000, "MiB of this process"
