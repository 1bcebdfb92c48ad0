"""BLEU: precision of word 1- to 4-grams times a brevity penalty, as sacrebleu defines it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tuner.evaluation.metric import Metric, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tuner.evaluation.predictions import Prediction


class Bleu(Metric):
    """Corpus BLEU equal to sacrebleu's (13a tokens, exponential smoothing), divided by 100.

    The value of a set is computed from n-gram counts summed over it; it is not the mean of the
    rows. The value of a row is sacrebleu's sentence BLEU with effective order, as otherwise a
    perfect reply of three words would score 0.
    """

    keys: ClassVar[tuple[str, ...]] = ("bleu",)
    paper: ClassVar[str] = "https://aclanthology.org/W18-6319"

    def signatures(self) -> dict[str, str]:
        """Returns sacrebleu's own signature."""
        from sacrebleu.metrics.bleu import BLEU

        bleu = BLEU()
        bleu.corpus_score(
            ["a"], [["a"]]
        )  # the signature exists once sacrebleu has counted references
        return {"bleu": f"sacrebleu BLEU|{bleu.get_signature()}; rows: sentence BLEU, eff:yes"}

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 10): 2 lengths, 4 n-gram matches, 4 totals."""
        from sacrebleu.metrics.bleu import BLEU

        bleu = BLEU(effective_order=True)
        found = [bleu.sentence_score(row.prediction, [row.reference]) for row in rows]
        counts = [[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in found]
        values = np.array([one.score for one in found], dtype=np.float64) / 100
        # exp(log(100)) is a hair above 100
        return {"bleu": Scores(np.minimum(values, 1.0), np.array(counts, dtype=np.float64))}

    def corpus(self, key: str, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns sacrebleu's corpus BLEU / 100 of summed counts, (..., 10) -> (...) float64."""
        del key
        length, reference_length = totals[..., 0], totals[..., 1]
        matches, grams = totals[..., 2:6], totals[..., 6:10]
        # sacrebleu's `exp` (NIST) smoothing: the j-th order without a match counts 1 / 2^j matches.
        halvings = np.cumsum(matches == 0, axis=-1)
        precision = np.where(matches > 0, matches, 0.5**halvings) / np.maximum(grams, 1)
        penalty = np.exp(np.minimum(0.0, 1 - reference_length / np.maximum(length, 1)))
        value = penalty * np.exp(np.log(precision).mean(axis=-1))
        defined = (matches > 0).any(axis=-1) & (grams > 0).all(axis=-1)
        return np.where(defined, np.minimum(value, 1.0), 0.0)
