"""What a command finds around it: its streams, its folder, and what the shell has left."""

from __future__ import annotations

import io
import os
import sys

from tuner.errors import UserError

PARENT = "TUNER_PARENT"  # id of the process whose end is to end this one, too
FIRST = "TUNER_FIRST_PROCESS"  # tells the processes of other devices who starts them
NUMBERS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", PARENT, FIRST)
# One of these is there wherever a process is one of several.
STARTED_BY = (FIRST, "TORCHELASTIC_RUN_ID", "SLURM_PROCID", "WORLD_SIZE")


def open_streams() -> None:
    """Let the command print whatever it has to, before a library keeps a stream for itself."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the shell; the next file would take its place
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    # A terminal may not know every character. Standard error writes those as escapes already.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def settle() -> None:
    """Refuse what no command can work in, and leave out what is of other programs.

    Raises:
        UserError: the current folder is gone, or a variable of the environment cannot be right.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the current folder cannot be read: {error.strerror}. Go to one that exists (cd)"
        ) from error
    os.environ["MPLBACKEND"] = "Agg"  # a notebook's is not known here
    for name in NUMBERS:
        value = os.environ.get(name, "0")
        if not (value.isascii() and value.isdigit()):
            raise UserError(
                f"{name}: the environment holds '{value}', which is no number; unset it"
            )
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if rank and not any(name in os.environ for name in STARTED_BY):
        raise UserError(
            f"LOCAL_RANK: the environment holds {rank}, but nothing has started this process as "
            f"one of several; unset it (docs/devices.md says how several are started)"
        )
