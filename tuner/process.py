"""Exit codes and what a person sees when something is wrong."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from tuner.errors import UserError
from tuner.lost import RESUME, lost_process, when_gone
from tuner.private import keep_private, without_secrets
from tuner.surroundings import FIRST, PARENT, open_streams, settle
from tuner.system import refusal
from tuner.visible import visible

if TYPE_CHECKING:
    from lightning import Trainer

# What the libraries say on every start and what a user can do nothing about.
MUTED_WARNINGS = (
    ".*does not have many workers.*",
    ".*LightningCLI's args parameter is intended.*",  # `tuner preview` is a kind of fit
    ".*Experiment logs directory .* exists and is not empty.*",  # claimed a moment before
    r".*isinstance\(treespec, LeafSpec\).*",
    ".*is_gradient_checkpointing.* is deprecated.*",
    ".*could not find the monitored key.*",  # before the first validation
    ".*is not supported by the model summary.*",
    ".*Total length of `list` across ranks is zero.*",  # a fit without validation
    ".*It is recommended to use .*sync_dist=True.*",  # what is logged is of all devices already
    ".*your dataloader is not resumable.*",  # the data module goes on at the batch itself
    ".*number of training batches .* is smaller than the logging interval.*",
)
MUTED_LOGS = {
    "lightning.pytorch.utilities.rank_zero": ("Tip:", "TPU available", "\nDetected Keyboard"),
    "lightning.pytorch.trainer.connectors.checkpoint_connector": ("`weights_only` was not set",),
    "transformers.integrations.bitsandbytes": ("The modules are dequantized",),
    "bitsandbytes.autograd._functions": ("MatMul8bitLt: inputs will be cast",),  # at every product
    "bitsandbytes.backends.cpu.ops": ("kernels-community",),
    "transformers.tokenization_utils_base": ("Token indices sequence length",),
}


def start(module: str, args: Sequence[str] | None = None) -> int:
    """Import a command's module and call its `main`.

    Args:
        module: dotted name, such as `tuner.cli`.
        args: command line; that of the process when null.

    Returns:
        The exit code; 2 where no command can work, 130 where Ctrl+C came during the import.
    """
    open_streams()
    try:
        settle()
    except UserError as error:
        return _said(str(error), by_all=True)
    # The libraries make millions of objects that live as long as the program. Looking through
    # them again and again for garbage would cost a quarter of the time to import them, and once
    # more at the end.
    keep_private()
    gc.disable()
    # A class of the user's own is found in the folder where the program was called, as `python -m`
    # finds it; behind everything else, so that no file there stands for one of a library.
    sys.path.append(os.getcwd())
    try:
        main = import_module(module).main
    except KeyboardInterrupt:  # the libraries take seconds
        return 130
    except Exception as error:
        if reason := refusal(error):
            return _said(reason)
        raise
    keep_private()  # once more: Lightning has put a format of its own for warnings
    gc.freeze()
    gc.enable()
    return main(args)


def run(command: Callable[[], None], advice: str = "") -> int:
    """Run a command and turn what the user can mend into one message.

    Args:
        command: the work; it raises `UserError` for what the user can mend.
        advice: how the command goes on when the system lets it, where it does.

    Returns:
        0 done; 2 the user can mend it (`TUNER_DEBUG=1` shows the traceback); 130 stopped by Ctrl+C;
        143 by SIGTERM. Anything else is raised, which ends a program with 1.
    """
    _mute()
    try:
        command()
        sys.stdout.flush()
    except UserError as error:
        return _said(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    except Exception as error:
        if lost := lost_process(error):
            return _said(lost, by_all=True)
        reason = refusal(error)
        if reason is None:
            raise
        if isinstance(error.__context__, UserError):  # the same disk, said before
            return _said(str(error.__context__))
        return _said(f"{reason}. {advice}" if advice else reason)
    except SystemExit as stop:
        # Lightning raises an exception of this kind on SIGTERM, and its own exit code would be 0.
        if type(stop).__name__ == "SIGTERMException":
            return int(stop.code or 143)
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's code for it would be 1
            return 130
        raise
    return 0


def stop_if_asked(trainer: Trainer) -> None:
    """End the run if SIGTERM has come: Lightning itself asks between batches only.

    Raises:
        SIGTERMException: it has.
    """
    if trainer.received_sigterm:
        from lightning.pytorch.utilities.exceptions import SIGTERMException

        raise SIGTERMException


@contextmanager
def exit_on_sigterm() -> Generator[None]:
    """Let SIGTERM end the block with an exception, so that what it was making is removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def held_back() -> Generator[Callable[[], None]]:
    """Let SIGTERM and Ctrl+C wait until the block asks for them; a second one does not wait.

    An exception in the middle of a transaction could leave its database locked.

    Yields:
        What asks: it does what the signal that came would have done.
    """
    came: list[int] = []
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def act(number: int) -> None:
        if callable(handler := before[signal.Signals(number)]):
            handler(number, None)

    def note(number: int, _: object) -> None:
        came.append(number)
        if len(came) > 1:
            act(number)

    def ask() -> None:
        if came:
            act(came[0])

    for number, handler in before.items():
        if callable(handler):  # else it is ignored, as for a job in the background
            signal.signal(number, note)
    try:
        yield ask
        ask()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def follow_parent() -> None:
    """End this process soon after the one that it works for.

    That is the process that Lightning started it from: a first process that is stopped before it
    has met the others would leave them waiting for it. torchrun and SLURM look after the processes
    that they start themselves. Or it is the one named in the environment (`PARENT`), and the run
    saves before it ends.
    """
    named = os.environ.pop(PARENT, None)
    outside = "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_PROCID" in os.environ
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    if first:
        os.environ[FIRST] = str(os.getpid())
    if named is None and (first or outside):
        return
    # The one that it works for may have ended while this one was being started.
    parent = int(named or os.environ.get(FIRST, os.getppid()))

    def end() -> None:
        if named is not None:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if threading.main_thread().is_alive():  # else both are at their end
            said = f"error: trainer.devices: the first process of this run has ended. {RESUME}"
            print(said, file=sys.stderr, flush=True)
        os._exit(2)

    when_gone(parent, end)


def _said(message: str, *, by_all: bool = False) -> int:
    if os.environ.get("TUNER_DEBUG") == "1":
        print(without_secrets(traceback.format_exc()), file=sys.stderr)
    # Every device finds the same mistake, but what became of one of them each sees for itself.
    if by_all or os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"error: {visible(without_secrets(message))}", file=sys.stderr)
    return 2


def _mute() -> None:
    for pattern in MUTED_WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    for name, starts in MUTED_LOGS.items():
        logging.getLogger(name).addFilter(
            lambda record, starts=starts: not any(start in record.getMessage() for start in starts)
        )
