"""Measure tokens/s and peak memory of `train.py fit`, each run in a process of its own.

    python benchmarks/fit.py NAME [--steps 30] [--repeat 3] -- --config configs/demo.yaml ...

What stands behind `--` goes to `fit` as it is. Writes benchmarks/results/fit-NAME.json; then
`python benchmarks/tables.py` brings docs/benchmarks.md up to date. Compare only figures that were
taken on one machine in one sitting: shared machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KEPT = ("tokens_per_second", "training_seconds", "tokens_seen", "steps", "peak_memory_mib")


def measure(options: list[str], steps: int) -> dict[str, Any]:
    """Run fit once for some steps, without validation or samples, and read its run.json."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), "fit", *options]
        command += ["--trainer.default_root_dir", folder, "--trainer.max_steps", str(steps)]
        command += ["--data.val_size", "0", "--samples.count", "0", "--name", "bench"]
        began = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        record = json.loads((Path(folder) / "bench" / "version_0" / "run.json").read_text())
    return {
        **{key: record[key] for key in KEPT},
        "process_seconds": round(seconds, 1),
        "record": {key: record[key] for key in ("versions", "hardware", "commit", "base", "head")},
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=3)
    args, options = parser.parse_known_args()
    options = [option for option in options if option != "--"]
    runs = [measure(options, args.steps) for _ in range(args.repeat)]
    rates = [run["tokens_per_second"] for run in runs]
    result = {
        "benchmark": "fit",
        "name": args.name,
        "command": " ".join(options),
        "tokens_per_second": {"median": statistics.median(rates), "all": rates},
        "peak_memory_mib": max(run["peak_memory_mib"] for run in runs),
        "process_seconds": statistics.median(run["process_seconds"] for run in runs),
        "steps": runs[0]["steps"],
        "tokens": runs[0]["tokens_seen"],
        **runs[0]["record"],
    }
    file = ROOT / "benchmarks" / "results" / f"fit-{args.name}.json"
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["tokens_per_second"]), f"peak {result['peak_memory_mib']:.0f} MiB")


if __name__ == "__main__":
    main()
