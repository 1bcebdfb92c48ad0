"""Errors that the user can mend: one clear message, exit code 2, no traceback."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Generator, Iterable
from contextlib import contextmanager


class UserError(Exception):
    """Something in the config, the data, a file or the hub is wrong and the user can mend it.

    The message says what is wrong, where (file:line or key), what is allowed and the nearest match.
    """


@contextmanager
def intact(file: object) -> Generator[None]:
    """Read what a command of this project has written; another form means that it was changed.

    The block reads, or computes from what was read. A disk that fails is another matter.

    Args:
        file: what is read, for the message.

    Raises:
        UserError: it is cut off, or does not hold what was written.
    """
    try:
        yield
    except _UNLIKE as error:
        raise UserError(f"{file}: {_NOT_INTACT} ({type(error).__name__}: {error})") from error
    except RecursionError as error:
        raise UserError(f"{file}: {_NOT_INTACT} (nested too deeply)") from error


_UNLIKE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, csv.Error)
_NOT_INTACT = "not as it was written: cut off, or changed since"


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Say what is allowed instead of `name`, the nearest match first.

    Returns:
        `Did you mean 'x'? Allowed: x, y, z.`, without the question where nothing is near.
    """
    options = sorted(allowed)
    lowered = {option.lower(): option for option in options}
    match = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    question = f"Did you mean '{lowered[match[0]]}'? " if match else ""
    return f"{question}Allowed: {', '.join(options)}."
