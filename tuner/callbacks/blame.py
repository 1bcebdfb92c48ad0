"""Which callback of the user's choice an error comes from."""

from __future__ import annotations

import traceback

from lightning.pytorch import Callback


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
