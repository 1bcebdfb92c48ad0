"""chrF: F-score of character 1- to 6-grams, kinder to short replies than BLEU."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tuner.evaluation.metric import Metric, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tuner.evaluation.predictions import Prediction

_ORDER = 6
_BETA_SQUARED = 4  # recall weighs twice as much as precision


class Chrf(Metric):
    """chrF2 equal to sacrebleu's (six orders, no word n-grams, whitespace ignored), divided by 100.

    The value of a set is computed from counts summed over it; it is not the mean of the rows.
    """

    keys: ClassVar[tuple[str, ...]] = ("chrf",)
    paper: ClassVar[str] = "https://aclanthology.org/W15-3049"

    def signatures(self) -> dict[str, str]:
        """Returns sacrebleu's own signature."""
        from sacrebleu.metrics.chrf import CHRF

        chrf = CHRF()
        chrf.corpus_score(
            ["a"], [["a"]]
        )  # the signature exists once sacrebleu has counted references
        return {"chrf": f"sacrebleu chrF2|{chrf.get_signature()}"}

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 18): written, expected, common by order."""
        counts = [_counts(row.prediction, row.reference) for row in rows]
        statistics = np.array(counts, dtype=np.float64)
        return {"chrf": Scores(self.corpus("chrf", statistics), statistics)}

    def corpus(self, key: str, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns sacrebleu's corpus chrF2 / 100 of summed counts, (..., 18) -> (...) float64."""
        del key
        counts = totals.reshape(*totals.shape[:-1], _ORDER, 3)
        written, expected, common = counts[..., 0], counts[..., 1], counts[..., 2]
        orders = np.maximum(((written > 0) & (expected > 0)).sum(axis=-1), 1)
        precision = (common / np.maximum(written, 1)).sum(axis=-1) / orders
        recall = (common / np.maximum(expected, 1)).sum(axis=-1) / orders
        weighted = _BETA_SQUARED * precision + recall
        value = (1 + _BETA_SQUARED) * precision * recall / np.where(weighted > 0, weighted, 1.0)
        return np.minimum(value, 1.0)


def _counts(prediction: str, reference: str) -> list[int]:
    """Of each order the runs of characters in the prediction, in the reference and in both."""
    written, expected = ("".join(text.split()) for text in (prediction, reference))
    points = np.frombuffer((written + expected).encode("utf-32-le", "surrogatepass"), np.uint32)
    signs = np.unique(points, return_inverse=True)[1]
    ours, theirs = signs[: len(written)], signs[len(written) :]
    one, two = ours, theirs  # equal runs have equal numbers
    found: list[int] = []
    for order in range(1, _ORDER + 1):
        if order > 1:  # a run is the one before its last sign, and that sign
            both = ((one, ours), (two, theirs))
            longer = [run[:-1] * len(signs) + sign[order - 1 :] for run, sign in both]
            numbers = np.unique(np.concatenate(longer), return_inverse=True)[1]
            one, two = numbers[: len(longer[0])], numbers[len(longer[0]) :]
        counts = [np.bincount(run, minlength=len(signs)) for run in (one, two)]
        # sacrebleu leaves out the orders that are longer than the reference
        found += [len(one) if len(two) else 0, len(two), int(np.minimum(*counts).sum())]
    return found
