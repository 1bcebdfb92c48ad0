"""Measure the data path on made-up rows: memory, time and second start.

    python benchmarks/data.py [--rows 100000 1000000] [--base pico]

Each measurement is a process of its own. Writes benchmarks/results/data.json; then
`python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import measured, write
from rows import write_rows

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as the command line sets it


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
        "seconds": round(seconds, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "imports_mib": round(imported_mib),
        "worker_peak_mib": round(workers),
        "tokens": sum(part["tokens"] for part in data.card["splits"].values()),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--base", default="pico")
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.prepare:
        print(json.dumps(prepare(*args.prepare, args.base)))
        return
    starts: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in args.rows:
            file = Path(folder) / f"{count}.jsonl"
            write_rows(file, count)
            cache = str(Path(folder) / f"cache-{count}")
            given = ("--base", args.base, "--prepare", str(file), cache)
            first, again = (measured(__file__, *given) for _ in range(2))
            starts.append(first | {"second_start_seconds": again["seconds"]})
            print(starts[-1], flush=True)
    write("data", {"base": args.base, "prepare": starts})


if __name__ == "__main__":
    main()
