"""Copied: how much of the reply stands in what the user said."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tuner.evaluation.metric import Kind, Metric, Scores
from tuner.evaluation.words import WORDS, grams, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.evaluation.predictions import Prediction

_ORDER = 4


class Copied(Metric):
    """Share of a reply's runs of four words that stand in the user's last turn, 0 to 1.

    A reply of one to three words is one run; one without words has no value. Where a row does not
    say what the user said last, the whole prompt is searched. See et al. give the share that is
    new, 1 minus this. A weak model that parrots the question is near 1, but summaries, rewritings
    and extracted answers must copy, so neither direction is better: compare with what tuning
    changed, not with 0.
    """

    keys: ClassVar[tuple[str, ...]] = ("copied",)
    paper: ClassVar[str] = "https://aclanthology.org/P17-1099"
    kind: ClassVar[Kind] = "behaviour"
    higher_is_better: ClassVar[bool | None] = None
    needs_reference: ClassVar[bool] = False

    def signatures(self) -> dict[str, str]:
        """Returns how words are found and how long a run is."""
        text = f"version:1|{WORDS}|words:{_ORDER}|from:last user turn|aggregate:ratio of sums"
        return {"copied": f"tuner copied|{text}"}

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 2): runs that were copied and all runs."""
        copied: list[int] = []
        total: list[int] = []
        for row in rows:
            written = words(row.prediction)
            order = min(_ORDER, len(written))
            runs = grams(written, order)
            source = set(grams(words(row.question or row.prompt), order))
            copied.append(sum(run in source for run in runs))
            total.append(len(runs))
        return {"copied": Scores.ratio(copied, total)}
