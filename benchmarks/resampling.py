"""Time of scoring a comparison and of its statistics, on made-up replies.

    python benchmarks/resampling.py [--rows 1000] [--turns 3]

Three systems, all metrics that apply, 10,000 resamples and random swaps of each pair. Writes
benchmarks/results/resampling.json; then `python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from itertools import combinations
from pathlib import Path

from tuner.evaluation.estimate import compare, estimate
from tuner.evaluation.metric import select_metrics
from tuner.evaluation.predictions import Prediction
from tuner.evaluation.score import applicable, score
from tuner.evaluation.stats import RESAMPLES

ROOT = Path(__file__).resolve().parent.parent
WORDS = [
    "the",
    "a",
    "order",
    "refund",
    "please",
    "we",
    "can",
    "help",
    "you",
    "today",
    "card",
    "number",
    "parcel",
    "late",
    "thanks",
]
SYSTEMS = ("base", "lora", "qlora")


def made_up(rows: int) -> list[Prediction]:
    """Replies of three systems to the same references, 20 words each."""
    draw = random.Random(0)
    references = [" ".join(draw.choices(WORDS, k=20)) for _ in range(rows)]
    return [
        Prediction(
            system=system,
            id=str(number),
            category="",
            prompt="",
            reference=reference,
            prediction=" ".join(draw.choices(WORDS, k=20)),
            stop_reason="eos",
            new_tokens=20,
            seconds=0.1,
            reference_nll=draw.uniform(20, 60),
            reference_tokens=20,
        )
        for system in SYSTEMS
        for number, reference in enumerate(references)
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    rows = made_up(options.rows)
    metrics = applicable(select_metrics(), rows)
    times: dict[str, list[float]] = {"scoring": [], "statistics": []}
    for _ in range(options.turns):
        began = time.perf_counter()
        scored = score(rows, metrics)
        times["scoring"].append(round(time.perf_counter() - began, 2))
        began = time.perf_counter()
        compare(scored, estimate(scored), list(combinations(SYSTEMS, 2)), "rougeL")
        times["statistics"].append(round(time.perf_counter() - began, 2))
    result = {
        "benchmark": "resampling",
        "cpus": os.cpu_count(),
        "rows": options.rows,
        "systems": len(SYSTEMS),
        "metrics": len(metrics),
        "resamples": RESAMPLES,
        "seconds": times,
    }
    file = ROOT / "benchmarks" / "results" / "resampling.json"
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(times))


if __name__ == "__main__":
    main()
