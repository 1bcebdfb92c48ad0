"""What went wrong in a training by the user's choice of trainer settings, callbacks and loggers."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from tuner.errors import UserError
from tuner.hold import Hold


@contextmanager
def blamed(hold: Hold | None) -> Generator[None]:
    """Say which setting a training failed of, where it was one.

    Args:
        hold: on the run's folder: a file that is not found may be of a folder that was removed.

    Raises:
        UserError: Lightning cannot train with the trainer's settings, a callback or a logger cannot
            work, or the run's folder is gone.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(f"trainer: {str(error).strip()}") from error
    except FileNotFoundError:
        if hold is not None:
            hold.check()
        raise
    except (UserError, OSError):
        raise
    except Exception as error:
        who = failed_part(error)
        if who is None:
            raise
        raise UserError(f"{who}: {type(error).__name__}: {str(error).strip()}") from error


def failed_part(error: Exception) -> str | None:
    """The callback or logger that raised an error, or in whose hook it was raised.

    Args:
        error: from a training.

    Returns:
        Its setting and class; null where it was none of them, or one of this project.
    """
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        one = frame.f_locals.get("self")
        if isinstance(one, Logger):
            found = f"trainer.logger: {type(one).__name__}"
        elif isinstance(one, Callback) and not type(one).__module__.startswith("tuner."):
            found = f"trainer.callbacks: {type(one).__name__}"
    return found  # the innermost: a callback of Lightning's own may have asked a logger
