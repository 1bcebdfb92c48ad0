"""What every benchmark needs: commands in processes of their own, and a file for the result."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LOOK = 0.05  # seconds between two looks at a process's memory


def run(*arguments: str) -> dict[str, Any]:
    """Run a Python command from the project's folder.

    Returns:
        `seconds` from its start to its end; `cpu_seconds` of all processors together; `peak_mib`,
        the most memory that it held at a time, mapped files included; `own_mib`, likewise without
        mapped files, as far as looking on showed it; `output`, what it printed.

    Raises:
        RuntimeError: it failed; what it said is in the message.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    own, said = [0], list[bytes]()
    threads = [
        threading.Thread(target=_watch, args=(process.pid, own), daemon=True),
        threading.Thread(target=lambda stream: said.append(stream.read()), args=(process.stderr,)),
    ]
    for thread in threads:
        thread.start()
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    for thread in threads:
        thread.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {said[0].decode()[-2000:]}")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(usage.ru_maxrss / 2**10),
        "own_mib": round(own[0] / 2**10),
        "output": output,
    }


def measured(file: str, *arguments: str) -> dict[str, Any]:
    """The JSON that a benchmark prints last when it is called to measure one thing.

    What `run` says of its process is added under keys that are not in it.
    """
    found = run(file, *arguments)
    return found | json.loads(found.pop("output").splitlines()[-1])


def write(name: str, result: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json: the result, how it was asked for and on what machine."""
    from tuner.callbacks.record import machine  # imports what a measured process should itself

    found = machine()
    found["hardware"]["processor"] = _processor()
    with suppress(PackageNotFoundError):  # the peer is no package of the project's own
        found["versions"]["trl"] = version("trl")
    asked = {"benchmark": name, "options": " ".join(map(_short, sys.argv[1:]))}
    text = json.dumps(asked | found | result, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _short(word: str) -> str:
    """A word of the command line without the folders of a file."""
    name, equals, file = word.rpartition("=")
    return name + equals + Path(file).name if "/" in file else word


def _processor() -> str:
    """What Linux calls the processor; else what Python does."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _watch(pid: int, most: list[int]) -> None:
    """Keep the most KiB of memory of its own that a process shows; ends with the process."""
    status = Path(f"/proc/{pid}/status")
    while True:
        try:
            lines = status.read_text().splitlines()
        except OSError:
            return
        found = [int(line.split()[1]) for line in lines if line.startswith("RssAnon:")]
        if not found:  # it has ended
            return
        most[0] = max(most[0], *found)
        time.sleep(LOOK)
