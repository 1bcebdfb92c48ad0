"""Compare the peak that `tuner plan` works out with the one of a fit, for several settings.

    python benchmarks/plan.py [--runs 1]

A base of 40 million random weights, rows filled to their length, three steps, no validation, each
fit in a process of its own. Writes benchmarks/results/plan.json; then run `benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from tuner.weights import PICO

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINTING = "--model.gradient_checkpointing=true"
CASES: list[tuple[str, int, int, list[str]]] = [  # name, rows, tokens a row, options
    ("LoRA", 4, 256, []),
    ("LoRA", 8, 256, []),
    ("LoRA, bf16-mixed", 4, 256, ["--trainer.precision=bf16-mixed"]),
    ("LoRA, nf4", 4, 256, ["--model.quantize=nf4"]),
    ("LoRA, gradient checkpointing", 4, 512, [CHECKPOINTING]),
    ("Full", 2, 256, ["--model.head=Full"]),
    ("Full, gradient checkpointing", 8, 256, ["--model.head=Full", CHECKPOINTING]),
]


def make_base(folder: Path) -> float:
    """Write a base with pico's tokenizer; returns millions of weights."""
    config = LlamaConfig(
        vocab_size=16384,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=1024,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(PICO).save_pretrained(folder)
    return round(model.num_parameters() / 1e6, 1)


def make_rows(file: Path, tokens: int) -> None:
    """Write 30 conversations of just that many tokens, or one or two less."""
    tokenizer = AutoTokenizer.from_pretrained(PICO)

    def length(words: int, number: int) -> int:
        turns = [
            {"role": "user", "content": f"{number}?"},
            {"role": "assistant", "content": " ".join(["order"] * words)},
        ]
        return len(tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"])

    with file.open("w", encoding="utf-8") as out:
        for number in range(30):
            words = tokens
            while length(words, number) > tokens:
                words -= 1
            row = {"prompt": f"{number}?", "completion": " ".join(["order"] * words)}
            out.write(json.dumps(row) + "\n")


def run(arguments: list[str]) -> str:
    """The output of a command of this project."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout


def measure(folder: Path, runs: int) -> list[dict[str, Any]]:
    """Planned and measured peak of every case, in MiB."""
    found: list[dict[str, Any]] = []
    for place, (name, rows, tokens, options) in enumerate(CASES):
        data = folder / f"rows-{tokens}.jsonl"
        if not data.is_file():
            make_rows(data, tokens)
        given = [f"--model.base={folder / 'base'}", "--data.source=Conversations", *options]
        given += [f"--data.source.path={data}", f"--data.batch_size={rows}"]
        given += [f"--data.max_length={tokens}", "--data.val_size=0", "--data.test_size=0"]
        given += ["--data.curation.near_duplicates=keep", f"--data.cache_dir={folder / 'cache'}"]
        given += ["--trainer.accelerator=cpu", "--trainer.max_steps=3", "--samples.count=0"]
        planned = json.loads(run(["-m", "tuner", "plan", *given, "--json"]))["peak"] / 2**20
        peaks: list[float] = []
        for turn in range(runs):
            logs = folder / f"logs-{place}-{turn}"
            run(["train.py", "fit", *given, f"--trainer.default_root_dir={logs}"])
            (record,) = logs.glob("*/*/run.json")
            peaks.append(json.loads(record.read_text(encoding="utf-8"))["peak_memory_mib"])
        found.append({"name": name, "rows": rows, "tokens": tokens})
        found[-1] |= {"planned_mib": round(planned), "measured_mib": [round(p) for p in peaks]}
        print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        size = make_base(Path(folder) / "base")
        cases = measure(Path(folder), options.runs)
    libc = " ".join(platform.libc_ver())
    result = {"benchmark": "plan", "cpus": os.cpu_count(), "libc": libc, "million_weights": size}
    file = ROOT / "benchmarks" / "results" / "plan.json"
    text = json.dumps(result | {"cases": cases}, indent=2)
    file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
