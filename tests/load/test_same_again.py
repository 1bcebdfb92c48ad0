"""The same configuration and seed give the same adapter and the same replies, to the bit."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tuner.cli import main as fit
from tuner.tools.compare import main as compare

BOTH = """
import json, sys
from tuner.cli import main as fit
from tuner.tools.compare import main as compare
first, second = json.loads(sys.stdin.read())
sys.argv = ["train.py"]
sys.exit(fit(first) or compare(second))
"""
HEADS = [
    *("AdaLoRA", "Full", "IA3", "LNTuning", "OFT", "PTuning", "PrefixTuning", "PromptTuning"),
    "VeRA",
]
WAYS: dict[str, dict[str, Any]] = {
    "again": {},
    "hash_seed": {"environment": {"PYTHONHASHSEED": "7"}},
    "folder": {"elsewhere": True},
    "workers": {"options": ["--data.num_workers=2"]},
    "no_cache": {"options": ["--data.cache_dir=null"]},
    "all_at_once": {
        "environment": {"PYTHONHASHSEED": "7"},
        "options": ["--data.num_workers=2", "--data.cache_dir=null"],
        "elsewhere": True,
    },
}


def left(logs: Path, name: str) -> dict[str, Any]:
    """What a run and its comparison left, without what tells of times, places and names."""
    run, found = logs / name / "version_0", dict[str, Any]()
    for file in (run / "adapter" if (run / "adapter").is_dir() else run / "model").iterdir():
        found[file.name] = file.read_bytes()
    with (run / "metrics.csv").open(newline="") as lines:
        keys = ("step", "train_loss", "val_loss", "sample_bleu")
        found["losses"] = [[row.get(key) for key in keys] for row in csv.DictReader(lines)]
    found["first batch"] = (run / "first_batch.json").read_bytes()
    found["samples"] = (run / "samples.jsonl").read_bytes()
    found["splits"] = json.loads((run / "data_card.json").read_text())["splits"]
    for line in (logs / "compare" / name / "predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        del row["seconds"]
        found[f"{row['system'] == name} {row['id']}"] = row | {"system": ""}
    return found


@pytest.mark.parametrize(
    ("head", "ways"),
    [
        ("LoRA", ["all_at_once"]),
        pytest.param("LoRA", list(WAYS), marks=pytest.mark.soak),
        *(pytest.param(head, ["all_at_once"], marks=pytest.mark.soak) for head in HEADS),
    ],
)
def test_another_process_makes_the_same_of_it(
    command: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figures: Callable[..., None],
    head: str,
    ways: list[str],
) -> None:
    """Another hash seed, folder and number of workers, with and without cached data."""
    monkeypatch.chdir(ROOT)
    logs = tmp_path / "logs"
    options = (
        f"--model.head={head}", "--trainer.max_epochs=2", "--optimizer.lr=0.02",
        "--data.val_size=6", "--data.test_size=6", "--data.max_length=256", "--samples.count=2",
        "--samples.max_new_tokens=6",
    )  # fmt: skip

    def asked(name: str, *more: str) -> tuple[list[str], list[str]]:
        training = command("fit", *options, f"--name={name}", *more)
        answers = [name, f"--logs={logs}", "--max_new_tokens=8", "--latency=0"]
        return training, [*answers, "--baselines=[]", "--metrics=[rougeL]"]

    first, second = asked("here")
    assert fit(first) == 0
    monkeypatch.setattr(sys, "argv", ["eval.py"])
    assert compare(second) == 0
    here = left(logs, "here")
    compared = 0
    for name in ways:
        way = WAYS[name]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", BOTH],
            input=json.dumps(asked(name, *way.get("options", ()))),
            cwd=tmp_path if way.get("elsewhere") else ROOT,
            env=environment | {"PYTHONHASHSEED": "0"} | way.get("environment", {}),
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        there = left(logs, name)
        assert there.keys() == here.keys()
        assert [key for key in here if there[key] != here[key]] == []
        compared += len(there)
    figures(
        "sameness", f"{head}: trained and compared anew in a process of its own", len(ways),
        ways=", ".join(ways).replace("_", " "), same_files_and_replies=compared,
    )  # fmt: skip
