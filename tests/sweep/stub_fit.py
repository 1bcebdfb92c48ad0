"""Stands in for `fit` in the tests of a sweep: leaves what a run leaves, in no time.

Options: `loss` (of the last validation, 1), `steps` (validations, 3), `pause` (seconds before each,
0), `behave` (`fail`, `crash` for good, `crash once`), `signal` (of the crash), `best` (JSON).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

options = dict(w[2:].split("=", 1) for w in sys.argv[1:] if w.startswith("--") and "=" in w)
name = Path(options["trainer.default_root_dir"]) / options["name"]
name.mkdir(parents=True, exist_ok=True)
number = 0
while True:
    try:
        folder = name / f"version_{number}"
        folder.mkdir()
        break
    except FileExistsError:
        number += 1
print("starting", *sys.argv[1:], flush=True)
(folder / "config.yaml").write_text(f"seed_everything: {options['seed_everything']}\n")
loss, steps = float(options.get("loss", "1")), int(options.get("steps", "3"))
record = {"status": "running", "trainable_params": 10, "base": "pico"}


def write(status: str) -> None:
    record.update(status=status, best={"val_loss": loss}, steps=steps, training_seconds=1.5)
    if "best" in options:
        record["best"] = json.loads(options["best"])
    record.update(peak_memory_mib=100.0, trainable_percent=0.5, head="LoRA")
    (folder / "run.json").write_text(json.dumps(record))


def stop(*_: object) -> None:
    write("stopped")
    os._exit(143)


signal.signal(signal.SIGTERM, stop)
if options.get("behave") == "fail":
    print("a line\nerror: the rows are of another kind\na last line")
    sys.exit(2)
if options.get("behave") == "crash" or (options.get("behave") == "crash once" and number == 0):
    os.kill(os.getpid(), int(options.get("signal", signal.SIGKILL)))
with (folder / "metrics.csv").open("w") as file:
    file.write("step,val_loss\n")
    for step in range(1, steps + 1):
        time.sleep(float(options.get("pause", "0")))
        file.write(f"{step},{loss + steps - step}\n")
        file.flush()
parent = os.environ.get("TUNER_PARENT")
assert parent is None or int(parent) == os.getppid()
write("finished")
