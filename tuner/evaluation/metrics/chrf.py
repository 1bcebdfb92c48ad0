"""chrF: F-score of character 1- to 6-grams, kinder to short replies than BLEU."""

from __future__ import annotations

from collections import Counter
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
        counts: list[list[int]] = []
        for row in rows:
            found: list[int] = []
            for order in range(1, _ORDER + 1):
                written, expected = _grams(row.prediction, order), _grams(row.reference, order)
                common = sum(min(count, expected[gram]) for gram, count in written.items())
                # sacrebleu leaves out the orders that are longer than the reference
                found += [written.total() if expected else 0, expected.total(), common]
            counts.append(found)
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


def _grams(text: str, order: int) -> Counter[str]:
    text = "".join(text.split())
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))
