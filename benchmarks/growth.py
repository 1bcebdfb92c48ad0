"""What more rows cost: time of `fit` by tokens, memory by rows, time of `eval.py` by replies.

    python benchmarks/growth.py [--turns 2] [--only fit memory evaluation]

Three sizes of each on pico, each in a process of its own, in turn. What models compute is left out
of the evaluation; see `evaluation.py`. Writes benchmarks/results/growth.json; then
`python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from evaluation import RUNS, make_runs
from evaluation import measure as compared
from measure import run, write
from rows import write_rows

FIT_ROWS = (250, 500, 1000)
MEMORY_ROWS = (5_000, 20_000, 80_000)
STEPS = 5
# Rows, and the systems that answer: a run alone, with its base, and two runs with their base.
COMPARED = (
    (250, [*RUNS]),
    (500, [*RUNS]),
    (1000, [RUNS[0], "--no_base"]),
    (1000, [RUNS[0]]),
    (1000, [*RUNS]),
)


def fitted(folder: Path, rows: int, lengths: tuple[int, int], *options: str) -> dict[str, Any]:
    """One `fit` on made-up rows, prepared by an earlier one where there was one."""
    file = folder / f"rows-{rows}.jsonl"
    if not file.is_file():
        write_rows(file, rows, *lengths)
    logs = Path(tempfile.mkdtemp(dir=folder))
    given = ["--model.base=pico", "--data.source=Conversations", f"--data.source.path={file}"]
    given += [f"--data.cache_dir={folder}/cache", f"--trainer.default_root_dir={logs}"]
    given += ["--data.val_size=0", "--data.test_size=0", "--samples.count=0", *options]
    found = run("train.py", "fit", *given)
    (record,) = (json.loads(file.read_text()) for file in logs.glob("*/*/run.json"))
    kept = ("tokens_seen", "training_seconds", "peak_memory_mib", "steps")
    return {key: found[key] for key in ("seconds", "cpu_seconds", "peak_mib", "own_mib")} | {
        key: record[key] for key in kept
    }


def fit(folder: Path) -> list[dict[str, Any]]:
    """Seconds of an epoch over three numbers of rows of 60 to 100 words."""
    return [{"rows": rows, **fitted(folder, rows, (60, 100))} for rows in FIT_ROWS]


def memory(folder: Path) -> list[dict[str, Any]]:
    """Memory of a few steps on three numbers of short rows, prepared in that start and before."""
    steps = f"--trainer.max_steps={STEPS}"
    found: list[dict[str, Any]] = []
    for rows in MEMORY_ROWS:
        starts = [fitted(folder, rows, (9, 24), steps) for _ in ("first", "second")]
        found += [{"rows": rows, "prepared": bool(turn)} | at for turn, at in enumerate(starts)]
    return found


def evaluation(folder: Path) -> list[dict[str, Any]]:
    """Seconds of the parts of a comparison without baselines."""
    if not (folder / "logs").is_dir():
        make_runs(folder, max(rows for rows, _ in COMPARED))
    return [
        compared(folder, *systems, "--limit", str(rows), "--baselines", "[]")
        for rows, systems in COMPARED
    ]


PARTS = {"fit": fit, "memory": memory, "evaluation": evaluation}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    found: dict[str, list[Any]] = {name: [] for name in options.only}
    for _ in range(options.turns):
        for name in options.only:
            # Each turn prepares its data anew; what does not need to is kept apart.
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(PARTS[name](Path(folder)))
            print(name, json.dumps(found[name][-1]), flush=True)
    write("growth", found)


if __name__ == "__main__":
    main()
