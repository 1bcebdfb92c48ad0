"""Measure the data path on synthetic rows: memory, time, second start, tokenisation rate.

    python benchmarks/data.py [--rows 100000 1000000] [--base pico]

Each measurement is a process of its own. Writes benchmarks/results/data.json; then
`python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as the command line sets it
ROOT = Path(__file__).resolve().parent.parent
SYLLABLES = [c + v for c in "bdfglmnprstvz" for v in ("a", "e", "i", "o", "u", "an", "er", "ing")]


def write_rows(file: Path, count: int) -> None:
    """Write conversations of invented words, about 20 in a question and 40 in a reply."""
    draw = random.Random(0)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(20_000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]  # as Zipf's law has it
    with file.open("w", encoding="utf-8") as out:
        for number in range(count):
            text = draw.choices(words, weights, k=draw.randint(30, 90))
            ask, reply = " ".join(text[: len(text) // 3]), " ".join(text[len(text) // 3 :])
            out.write(json.dumps({"prompt": f"{ask}?", "completion": f"{reply}.", "n": number}))
            out.write("\n")


def prepare(file: str, cache: str, base: str) -> dict[str, Any]:
    """Prepare a file through the data module."""
    from tuner.backbone import load_tokenizer
    from tuner.data.datamodule import ConversationData
    from tuner.data.sources.conversations import Conversations

    tokenizer = load_tokenizer(base)
    imported_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    data = ConversationData(Conversations(file), cache_dir=cache)
    curated = data.prepare(tokenizer)
    seconds = time.perf_counter() - began
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "rows": curated.seen,
        "seconds": round(seconds, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "imports_mib": round(imported_mib),
        "worker_peak_mib": round(workers),
        "tokens": sum(part["tokens"] for part in data.card["splits"].values()),
    }


def rate(file: str, base: str) -> dict[str, Any]:
    """Rows a second of the bare tokenizer and of tokenisation with the loss mask, in turn."""
    from tuner.backbone import load_tokenizer
    from tuner.data import encode as module
    from tuner.data.prompts.base import Rendered
    from tuner.data.prompts.chat import Chat
    from tuner.data.sources.conversations import Conversations

    tokenizer, prompt = load_tokenizer(base), Chat()
    rows = [e.messages for e in Conversations(file, limit=20_000).rows().examples]
    rendered = {id(row): prompt.render(row, tokenizer) for row in rows}
    texts = [item.text for item in rendered.values()]

    class Ready(Chat):
        """Gives what was rendered before, so that tokenisation alone is measured."""

        def render(self, messages: Any, tokenizer: Any) -> Rendered:
            return rendered[id(messages)]

    found: dict[str, list[int]] = {"bare": [], "with_mask": []}
    for _ in range(3):
        began = time.perf_counter()
        tokenizer(texts, add_special_tokens=False)
        found["bare"].append(round(len(rows) / (time.perf_counter() - began)))
        began = time.perf_counter()
        module.encode(rows, Ready(), tokenizer)
        found["with_mask"].append(round(len(rows) / (time.perf_counter() - began)))
    return found


def measured(*arguments: str) -> dict[str, Any]:
    """The result of one measurement, in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--base", default="pico")
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--rate", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.prepare:
        print(json.dumps(prepare(*args.prepare, args.base)))
        return
    if args.rate:
        print(json.dumps(rate(args.rate, args.base)))
        return
    result: dict[str, Any] = {"benchmark": "data", "base": args.base, "cpus": os.cpu_count()}
    result["prepare"] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in args.rows:
            file = Path(folder) / f"{count}.jsonl"
            write_rows(file, count)
            cache = str(Path(folder) / f"cache-{count}")
            first = measured("--base", args.base, "--prepare", str(file), cache)
            again = measured("--base", args.base, "--prepare", str(file), cache)
            result["prepare"].append(first | {"second_start_seconds": again["seconds"]})
            print(result["prepare"][-1], flush=True)
            if count == args.rows[0]:
                result["tokenisation"] = measured("--base", args.base, "--rate", str(file))
                print(result["tokenisation"], flush=True)
    output = ROOT / "benchmarks" / "results" / "data.json"
    output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
