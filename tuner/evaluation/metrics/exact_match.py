"""Exact match: whether the reply is the reference, but for case, punctuation and articles."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, ClassVar

from tuner.evaluation.metric import Metric, Scores
from tuner.evaluation.words import without_punctuation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.evaluation.predictions import Prediction

_ARTICLES = frozenset({"a", "an", "the"})


class ExactMatch(Metric):
    """Share of replies equal to their reference after SQuAD's normalisation, 0 to 1.

    Casefolded, without punctuation (that of Unicode too, where SQuAD knows ASCII's only), without
    the English articles, blanks made one. A text that has nothing left keeps its articles, and then
    its punctuation, as otherwise the choices `A` and `The` or `+` and `-` would be equal. It speaks
    for itself where replies are short and one wording is right; elsewhere it is near 0 for all.
    """

    keys: ClassVar[tuple[str, ...]] = ("exact_match",)
    paper: ClassVar[str] = "https://arxiv.org/abs/1606.05250"

    def signatures(self) -> dict[str, str]:
        """Returns what is left out before texts are compared."""
        text = "version:1|norm:casefold, punctuation, articles, blanks|aggregate:mean"
        return {"exact_match": f"tuner exact_match|{text}|unicode:{unicodedata.unidata_version}"}

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 2): the value and 1."""
        equal = [float(normalise(row.prediction) == normalise(row.reference)) for row in rows]
        return {"exact_match": Scores.mean(equal)}


def normalise(text: str) -> str:
    """Leaves out what makes no difference between answers."""
    text = text.casefold()
    bare = without_punctuation(text).split()
    kept = " ".join(word for word in bare if word not in _ARTICLES)
    return kept or " ".join(bare) or " ".join(text.split())
