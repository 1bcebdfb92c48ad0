"""Replacing characters of a text, each looked at once however often it occurs."""

from collections.abc import Callable


class Replacing(dict[int, str]):
    """A table for `str.translate`, filled as characters are met.

    Args:
        replacement: what a character is replaced with.
    """

    def __init__(self, replacement: Callable[[str], str]) -> None:
        super().__init__()
        self._replacement = replacement

    def __missing__(self, point: int) -> str:
        """Look at a character for the first time."""
        self[point] = self._replacement(chr(point))
        return self[point]
