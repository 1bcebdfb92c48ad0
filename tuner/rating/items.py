"""Blinding: which items a rater sees in which order, and which answer stands where."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import TYPE_CHECKING

from tuner.errors import UserError
from tuner.visible import visible

if TYPE_CHECKING:
    from tuner.rating.study import Study

LETTERS = "ABCD"
LONGEST_NAME = 60  # characters of a rater's name


@dataclass(frozen=True)
class Item:
    """One page of one rater.

    Attributes:
        id: of the example.
        turn: 1, or 2 where the rater sees it for the second time.
        systems: who wrote answer A, B, ...; never shown.
    """

    id: str
    turn: int
    systems: tuple[str, ...]

    @property
    def letters(self) -> str:
        """The letters of the answers."""
        return LETTERS[: len(self.systems)]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of letters, one preference each."""
        return list(combinations(self.letters, 2))

    def system(self, letter: str) -> str:
        """Who wrote an answer."""
        return self.systems[self.letters.index(letter)]


def rater_name(typed: str) -> str:
    """A rater's name as it is stored: one line, nothing invisible.

    Raises:
        UserError: nothing is left of it, or it is too long.
    """
    name = visible(" ".join(unicodedata.normalize("NFC", typed).split()))
    if not 1 <= len(name) <= LONGEST_NAME:
        raise UserError(f"a rater's name has 1 to {LONGEST_NAME} characters")
    return name


def arrange(study: Study, rater: str) -> list[Item]:
    """The pages of a rater, in order.

    Items are shuffled. Every order of the answers comes equally often (as far as numbers allow), in
    random succession, so no system gains from its side. Repeated items come last, arranged anew.

    Args:
        study: what is rated.
        rater: the name; another rater gets other orders.

    Returns:
        As many pages as the study has items and repeats.
    """
    rng = random.Random(f"{study.seed}/{rater}")
    ids = rng.sample(study.items, len(study.items))
    again = rng.sample(ids, study.repeats)
    sides: list[tuple[str, ...]] = []
    while len(sides) < len(ids) + len(again):
        block = list(permutations(study.systems))
        rng.shuffle(block)
        sides += block
    shown = [(one, 1) for one in ids] + [(one, 2) for one in again]
    return [Item(one, turn, side) for (one, turn), side in zip(shown, sides, strict=False)]
