"""Length: how long replies are beside their references."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tuner.evaluation.metric import Kind, Metric, Scores
from tuner.evaluation.words import WORDS, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.evaluation.predictions import Prediction


class Length(Metric):
    """Words of the replies by words of the references: 0 and up, 1 where they are as long.

    A set's value is a ratio of sums, as BLEU's brevity penalty has it. Neither direction is better,
    but overlap cannot be read without it: recall rewards long replies, precision short ones. A row
    whose reference has no words has no value.
    """

    keys: ClassVar[tuple[str, ...]] = ("length_ratio",)
    paper: ClassVar[str] = "https://aclanthology.org/P02-1040"
    kind: ClassVar[Kind] = "behaviour"
    higher_is_better: ClassVar[bool | None] = None

    def signatures(self) -> dict[str, str]:
        """Returns how words are counted."""
        return {"length_ratio": f"tuner length_ratio|version:1|{WORDS}|aggregate:ratio of sums"}

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 2): words of the reply, words of the reference."""
        written = [len(words(row.prediction)) for row in rows]
        expected = [len(words(row.reference)) for row in rows]
        return {"length_ratio": Scores.ratio(written, expected)}
