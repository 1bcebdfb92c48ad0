"""ROUGE: overlap of words (1), word pairs (2) and of the longest common subsequence (L), as F1."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

from tuner.evaluation.metric import Metric, Scores

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
        from rouge_score.rouge_scorer import RougeScorer  # pyright: ignore[reportMissingTypeStubs]

        scorer: Any = RougeScorer(list(self.keys), use_stemmer=False)
        found = [scorer.score(row.reference, row.prediction) for row in rows]
        return {key: Scores.mean([one[key].fmeasure for one in found]) for key in self.keys}
