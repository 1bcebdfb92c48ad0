"""What a rater has done and may do: between the stored ratings and the page or the sheet.

Answers are named by letters here; who wrote them is known below this room only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner.errors import UserError
from tuner.rating.items import Item, arrange
from tuner.rating.store import Rating
from tuner.visible import visible

if TYPE_CHECKING:
    from tuner.rating.store import Store
    from tuner.rating.study import Answers, Study

TIE = "tie"
LONGEST_COMMENT = 5000  # characters


@dataclass(frozen=True)
class Marks:
    """What a rater has said about one item.

    Attributes:
        scores: 1 to 5 by letter of the answer and criterion.
        preferences: the better letter, or `tie`, by pair of letters.
        comment: free text.
    """

    scores: dict[tuple[str, str], str]
    preferences: dict[tuple[str, str], str]
    comment: str


class Desk:
    """One rater's work on a study.

    Args:
        study: what is rated.
        answers: its texts.
        store: where ratings go.
        rater: the name, from `rater_name`.
    """

    def __init__(self, study: Study, answers: Answers, store: Store, rater: str) -> None:
        self.study, self.answers, self.store, self.rater = study, answers, store, rater
        self.items = arrange(study, rater)

    def shown(self, item: Item) -> tuple[str, str, dict[str, str]]:
        """The question, all that the models were given, and the answers by letter, safe to show."""
        rows = self.answers.rows[item.id]
        answers = {one: visible(rows[item.system(one)].prediction) for one in item.letters}
        given = self.answers.given(item.id, self.study.systems)
        return visible(self.answers.asked(item.id)), visible(given), answers

    def marks(self) -> list[Marks]:
        """What is stored so far, for each of the rater's items."""
        stored: dict[tuple[str, int], dict[tuple[str, str, str], Rating]] = {}
        for one in self.store.ratings(self.rater):
            page = stored.setdefault((one.item, one.turn), {})
            page[one.criterion, one.system, one.other] = one
        return [self._marks(item, stored.get((item.id, item.turn), {})) for item in self.items]

    def _marks(self, item: Item, stored: dict[tuple[str, str, str], Rating]) -> Marks:
        scores = {
            (letter, criterion): stored[criterion, item.system(letter), ""].value
            for letter in item.letters
            for criterion in self.study.criteria
            if (criterion, item.system(letter), "") in stored
        }
        letters = {item.system(letter): letter for letter in item.letters} | {"": TIE}
        preferences = {
            pair: letters[stored["", *self._pair(item, pair)].value]
            for pair in item.pairs
            if ("", *self._pair(item, pair)) in stored
        }
        comment = stored["", "", ""].value if ("", "", "") in stored else ""
        return Marks(scores, preferences, comment)

    def done(self) -> list[bool]:
        """For each item, whether all but the comment is there."""
        return [
            len(marks.scores) == len(item.letters) * len(self.study.criteria)
            and len(marks.preferences) == len(item.pairs)
            for item, marks in zip(self.items, self.marks(), strict=True)
        ]

    def score(self, item: Item, letter: str, criterion: str, value: str) -> Rating:
        """A score, checked.

        Raises:
            UserError: there is no such answer, criterion or score.
        """
        if letter not in item.letters or len(letter) != 1:
            raise UserError(f"there is no answer {letter!r}")
        if criterion not in self.study.rubric:
            raise UserError(f"there is no criterion {criterion!r}")
        if value not in ("1", "2", "3", "4", "5"):
            raise UserError(f"a score is 1, 2, 3, 4 or 5, not {value!r}")
        return self._rating(
            item, kind="score", criterion=criterion, system=item.system(letter), value=value
        )

    def preference(self, item: Item, pair: tuple[str, str], value: str) -> Rating:
        """A preference between two answers, checked.

        Raises:
            UserError: there is no such pair or choice.
        """
        if pair not in item.pairs:
            raise UserError(f"there is no pair {pair!r}")
        if value not in (*pair, TIE):
            raise UserError(f"the better one is {pair[0]}, {pair[1]} or {TIE}, not {value!r}")
        first, second = self._pair(item, pair)
        better = "" if value == TIE else item.system(value)
        return self._rating(item, kind="preference", system=first, other=second, value=better)

    def comment(self, item: Item, text: str) -> Rating:
        """A comment, checked.

        Raises:
            UserError: it is too long.
        """
        text = text.replace("\r\n", "\n")
        if len(text) > LONGEST_COMMENT:
            raise UserError(f"a comment has at most {LONGEST_COMMENT:,} characters")
        return self._rating(item, kind="comment", value=text)

    def _pair(self, item: Item, pair: tuple[str, str]) -> tuple[str, str]:
        """The systems of two letters in the order of the study, on whatever side they stand."""
        first, second = sorted((item.system(one) for one in pair), key=self.study.systems.index)
        return first, second

    def _rating(self, item: Item, **fields: str) -> Rating:
        return Rating(rater=self.rater, item=item.id, turn=item.turn, **fields)  # pyright: ignore[reportArgumentType]
