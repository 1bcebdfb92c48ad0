"""What went wrong in a training by the user's choice of trainer settings and callbacks."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback

from tuner.errors import UserError
from tuner.hold import Hold


@contextmanager
def blamed(hold: Hold | None) -> Generator[None]:
    """Say which setting a training failed of, where it was one.

    Args:
        hold: on the run's folder: a file that is not found may be of a folder that was removed.

    Raises:
        UserError: Lightning cannot train with the trainer's settings, a callback cannot work, or
            the run's folder is gone.
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
        who = failed_callback(error)
        if who is None:
            raise
        said = f"{who}: {type(error).__name__}: {str(error).strip()}"
        raise UserError(f"trainer.callbacks: {said}") from error


def failed_callback(error: Exception) -> str | None:
    """The class of the callback that raised an error, or in whose hook it was raised.

    Args:
        error: from a training.

    Returns:
        Its name; null where it was no callback, or one of this project.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        one = frame.f_locals.get("self")
        if isinstance(one, Callback) and not type(one).__module__.startswith("tuner."):
            return type(one).__name__
    return None
