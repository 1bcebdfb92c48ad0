"""ROUGE: overlap of words (1), word pairs (2) and of the longest common subsequence (L), as F1."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar

from tuner.evaluation.metric import Metric, Scores
from tuner.evaluation.words import grams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.evaluation.predictions import Prediction


class Rouge(Metric):
    """ROUGE F1 equal to google's rouge_score without stemming; a set's value is the mean of rows.

    The tokens are runs of a-z and 0-9 after lower-casing, so text in other scripts scores 0: use
    chrF there. rougeLsum is left out because its value depends on how a package splits sentences.
    """

    keys: ClassVar[tuple[str, ...]] = ("rouge1", "rouge2", "rougeL")
    paper: ClassVar[str] = "https://aclanthology.org/W04-1013"

    def signatures(self) -> dict[str, str]:
        """Returns package, version and variant for each key."""
        text = (
            f"version:{version('rouge_score')}|stemmer:no|tok:[a-z0-9]+|measure:F1|aggregate:mean"
        )
        return {key: f"rouge_score {key}|{text}" for key in self.keys}

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 2): the value and 1."""
        from rouge_score.tokenize import tokenize  # pyright: ignore[reportMissingTypeStubs]

        found: list[list[float]] = []
        for row in rows:
            written: list[str] = tokenize(row.prediction, None)
            expected: list[str] = tokenize(row.reference, None)
            shared = [_shared(written, expected, order) for order in (1, 2)]
            common = [*shared, _subsequence(written, expected)]
            sizes = [(len(written) - less, len(expected) - less) for less in (0, 1, 0)]
            found.append([_f1(*of) for of in zip(common, sizes, strict=True)])
        return {
            key: Scores.mean([one[place] for one in found]) for place, key in enumerate(self.keys)
        }


def _shared(one: list[str], two: list[str], order: int) -> int:
    """Number of runs of `order` words that both have."""
    return (Counter(grams(one, order)) & Counter(grams(two, order))).total()


def _subsequence(one: list[str], two: list[str]) -> int:
    """Length of the longest common subsequence.

    A bit of one number stands for each word of the first text, so that a word of the second costs a
    few operations on the whole of it (Hyyrö 2004, "Bit-parallel LCS-length computation revisited").
    rouge_score fills a table cell by cell, which takes many times as long for the same length.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(one)) - 1
    left = whole
    for word in two:
        met = left & places.get(word, 0)
        left = (left + met | left - met) & whole
    return len(one) - left.bit_count()


def _f1(common: int, sizes: tuple[int, int]) -> float:
    precision, recall = (common / max(size, 1) for size in sizes)
    return 2 * precision * recall / (precision + recall) if common else 0.0
