"""Likelihood: how well a model expects the reference, whatever it writes itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tuner.evaluation.metric import Kind, Metric, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tuner.evaluation.predictions import Prediction

_MOST = 700.0  # nats a token; e to this power is near the largest float64


class Likelihood(Metric):
    """Nats a token of the reference (nll, 0 and up) and e to that power (perplexity, 1 and up).

    A set's value weighs every token alike, as validation loss does: summed nats by summed tokens.
    It sees small changes that greedy replies hide, and needs no overlap of words. Values of models
    with different tokenizers cannot be compared, as their tokens differ. It applies where every row
    was measured; a row whose nats are not a finite number has no value.
    """

    keys: ClassVar[tuple[str, ...]] = ("nll", "perplexity")
    paper: ClassVar[str] = "https://doi.org/10.1121/1.2016299"
    kind: ClassVar[Kind] = "likelihood"
    higher_is_better: ClassVar[bool | None] = False

    def applies(self, rows: Sequence[Prediction]) -> bool:
        """Whether the likelihood of every reference was measured."""
        return bool(rows) and all(
            row.reference_nll is not None and row.reference_tokens > 0 for row in rows
        )

    def signatures(self) -> dict[str, str]:
        """Returns what is summed and what it is divided by."""
        text = "of:whole reference|tokens:the model's own|aggregate:by token|unit:nats"
        return {key: f"tuner {key}|version:1|{text}" for key in self.keys}

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 2): nats and tokens."""
        known = [row.reference_nll is not None and math.isfinite(row.reference_nll) for row in rows]
        nats = [
            float(row.reference_nll or 0) if ok else 0.0
            for ok, row in zip(known, rows, strict=True)
        ]
        tokens = [
            float(row.reference_tokens) if ok else 0.0 for ok, row in zip(known, rows, strict=True)
        ]
        nll = Scores.ratio(nats, tokens)
        return {"nll": nll, "perplexity": Scores(_exp(nll.rows), nll.statistics)}

    def corpus(self, key: str, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns nats a token, or the perplexity, of summed nats and tokens: (..., 2) -> (...)."""
        nll = super().corpus(key, totals)
        return nll if key == "nll" else _exp(nll)


def _exp(nll: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(np.minimum(nll, _MOST))
