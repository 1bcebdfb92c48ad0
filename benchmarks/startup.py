"""Compare the time of `train.py fit --help` with importing lightning and transformers alone.

    python benchmarks/startup.py [--turns 5]

Both are run in turn, so that a busy machine slows them alike. Writes
benchmarks/results/startup.json; then `python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    'python -c "import lightning, transformers"': ["-c", "import lightning, transformers"],
    "python train.py fit --help": ["train.py", "fit", "--help"],
    "python eval.py --help": ["eval.py", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Wall-clock seconds of one process, from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - began, 2)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    for arguments in COMMANDS.values():  # files into the page cache, modules compiled
        seconds(arguments)
    times: dict[str, list[float]] = {command: [] for command in COMMANDS}
    for _ in range(turns):
        for command, arguments in COMMANDS.items():
            times[command].append(seconds(arguments))
    result = {"benchmark": "startup", "cpus": os.cpu_count(), "seconds": times}
    file = ROOT / "benchmarks" / "results" / "startup.json"
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({command: statistics.median(all_) for command, all_ in times.items()}))


if __name__ == "__main__":
    main()
