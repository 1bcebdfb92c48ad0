"""Diversity: how many of a reply's words are different, and how much of it repeats itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tuner.evaluation.metric import Kind, Metric, Scores
from tuner.evaluation.words import WORDS, grams, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.evaluation.predictions import Prediction

_REPEATED = 4  # words: a shorter run comes again in any good text


class Distinct(Metric):
    """Different words (distinct1) and word pairs (distinct2) by all of them, above 0 to 1.

    They are counted within each reply and then summed over the set, so that fixed phrases shared
    by replies cost nothing; numbers over a whole set at once, as in the paper, are lower. Long
    replies repeat more words than short ones, so neither direction is better: read it beside
    length_ratio. A reply shorter than the run has no value.
    """

    keys: ClassVar[tuple[str, ...]] = ("distinct1", "distinct2")
    paper: ClassVar[str] = "https://arxiv.org/abs/1510.03055"
    kind: ClassVar[Kind] = "behaviour"
    higher_is_better: ClassVar[bool | None] = None
    needs_reference: ClassVar[bool] = False

    def signatures(self) -> dict[str, str]:
        """Returns how words are found and where they are counted."""
        text = f"version:1|{WORDS}|within:reply|aggregate:ratio of sums"
        return {key: f"tuner {key}|{text}" for key in self.keys}

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 2): different runs and all runs."""
        found = [words(row.prediction) for row in rows]
        scores: dict[str, Scores] = {}
        for order, key in enumerate(self.keys, start=1):
            counts = [_distinct(one, order) for one in found]
            scores[key] = Scores.ratio([new for new, _ in counts], [total for _, total in counts])
        return scores


class Repetition(Metric):
    """Share of a reply's runs of four words that stood in it before, 0 to below 1.

    Small models that lose their way loop, which overlap shows only as a long reply; a text without
    loops is near 0, so lower is better. A reply of fewer than four words has no value.
    """

    keys: ClassVar[tuple[str, ...]] = ("repetition",)
    paper: ClassVar[str] = "https://arxiv.org/abs/1908.04319"
    kind: ClassVar[Kind] = "behaviour"
    higher_is_better: ClassVar[bool | None] = False
    needs_reference: ClassVar[bool] = False

    def signatures(self) -> dict[str, str]:
        """Returns how words are found and how long a run is."""
        text = f"version:1|{WORDS}|words:{_REPEATED}|within:reply|aggregate:ratio of sums"
        return {"repetition": f"tuner repetition|{text}"}

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 2): runs that stood there before and all runs."""
        counts = [_distinct(words(row.prediction), _REPEATED) for row in rows]
        repeated = [total - new for new, total in counts]
        return {"repetition": Scores.ratio(repeated, [total for _, total in counts])}


def _distinct(found: list[str], order: int) -> tuple[int, int]:
    runs = grams(found, order)
    return len(set(runs)), len(runs)
