"""Time until a command answers, and until `fit` has done its first step on prepared data.

    python benchmarks/startup.py [--turns 5]

Beside it, in turn, so that a busy machine slows all alike: the imports that these commands cannot
do without. Writes benchmarks/results/startup.json; then `python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time

from measure import ROOT, run, write

IMPORTS = ["-c", "import lightning, transformers, peft"]
COMMANDS = {
    'python -c "import lightning, transformers, peft"': IMPORTS,
    "python train.py fit --help": ["train.py", "fit", "--help"],
    "python eval.py --help": ["eval.py", "--help"],
}
FIT = ["train.py", "fit", "--config", "configs/demo.yaml"]


def first_step(folder: str) -> float:
    """Seconds from the start of a `fit` to the end of its first optimiser step."""
    options = [f"--trainer.default_root_dir={folder}/logs", f"--data.cache_dir={folder}/cache"]
    # No validation behind the step: it is over, and the rest would only be waited for.
    options += ["--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--samples.count=0"]
    began = time.clock_gettime(time.CLOCK_MONOTONIC)
    output = run(*FIT, *options, "--trainer.callbacks+=clock.FirstStep")["output"]
    (at,) = re.findall(r"^first step at ([\d.]+)$", output, re.MULTILINE)
    return round(float(at) - began, 2)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    places = [str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]  # where `clock` is found
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    step = " ".join(["python", *FIT]) + ": first step"
    times: dict[str, list[float]] = {command: [] for command in [*COMMANDS, step]}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns + 1):
            found = {name: run(*arguments)["seconds"] for name, arguments in COMMANDS.items()}
            found[step] = first_step(folder)
            if turn:  # the first brings files into memory, compiles modules and prepares the data
                for name, seconds in found.items():
                    times[name].append(seconds)
            print({name: found[name] for name in times}, flush=True)
    write("startup", {"seconds": times})
    print({name: statistics.median(every) for name, every in times.items()})


if __name__ == "__main__":
    main()
