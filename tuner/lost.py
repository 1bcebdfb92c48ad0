"""Processes that a run cannot do without: what it says, and how it ends, when one is gone."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

POLL = 1.0  # seconds between two looks at the other processes of this machine
GRACE = 10.0  # seconds for the first process to hear of it from the network, and to end in order
RESUME = "Checkpoints saved before are whole: --ckpt_path last goes on from them"
SOURCE = re.compile(r"^\[\S*gloo/\S+\] ")  # where in the library it was said
PEERS = ("DistBackendError", "DistNetworkError", "DistStoreError")  # of torch.distributed


def lost_process(error: Exception) -> str | None:
    """What to say of an error that the end of another process has brought about.

    Args:
        error: of any library.

    Returns:
        A message; null where the error is of another kind.
    """
    reason = (str(error).strip().splitlines() or [""])[0].strip(" .")
    if reason.startswith("DataLoader worker (pid"):
        return (
            "data.num_workers: a process that builds batches has ended, often for lack of memory "
            f"({reason}). {RESUME}; --data.num_workers 0 needs no such process"
        )
    if type(error).__name__ == "BrokenProcessPool":
        return (
            "data: a process that prepares rows was killed, often for lack of memory. Nothing of "
            "this preparation is kept: the same command begins it anew"
        )
    if type(error).__name__ in PEERS or "gloo/" in reason:
        rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK", "0")
        said = SOURCE.sub("", reason).split(". ")[0]
        return (
            f"trainer.devices: process {rank} has lost touch with the others; one of them may be "
            f"gone ({said}). {RESUME}"
        )
    return None


def when_gone(parent: int, then: Callable[[], None]) -> None:
    """Do something soon after the process that has started this one has ended.

    Args:
        parent: its id.
        then: what is done, in a thread of its own.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        then()

    threading.Thread(target=watch, daemon=True).start()


def end_together(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End this process soon after one of those that it has started ends with an error.

    Takes the place of Lightning's own observer, which kills this process at once, before it could
    say a word.

    Args:
        processes: of the other devices of this machine.
    """

    def watch() -> None:
        while not (ended := [one for one in processes if one.poll()]):
            if all(one.returncode == 0 for one in processes):
                return
            time.sleep(POLL)
        time.sleep(GRACE)
        print(
            f"error: trainer.devices: the process of another device (pid {ended[0].pid}) has ended "
            f"with {ended[0].returncode}. {RESUME}",
            file=sys.stderr,
            flush=True,
        )
        for one in processes:
            one.kill()
        os._exit(2)

    threading.Thread(target=watch, daemon=True).start()
