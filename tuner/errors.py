"""Errors that the user can mend: one clear message, exit code 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something in the config, the data, a file or the hub is wrong and the user can mend it.

    The message says what is wrong, where (file:line or key), what is allowed and the nearest match.
    """


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
