"""Tone: whether the words of a reply are rather positive or negative."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tuner.data.annotate import polarity
from tuner.evaluation.metric import Kind, Metric, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.evaluation.predictions import Prediction


class Tone(Metric):
    """Polarity of a reply by TextBlob's lexicon of English, -1 (negative) to 1 (positive).

    A set's value is the mean. A reply without a word of the lexicon, an empty one too, is neutral:
    0. Bad news must be told and may be told well, so neither direction is better; it shows whether
    tuning changed the tone. Sentences, tags and phrases of TextBlob need downloads and are not
    used.
    """

    keys: ClassVar[tuple[str, ...]] = ("polarity",)
    paper: ClassVar[str] = "https://www.jmlr.org/papers/v13/desmedt12a.html"
    kind: ClassVar[Kind] = "tone"
    higher_is_better: ClassVar[bool | None] = None
    needs_reference: ClassVar[bool] = False

    def signatures(self) -> dict[str, str]:
        """Returns the package, its version and the hash of its lexicon."""
        spec = find_spec("textblob")
        package = Path((spec.origin if spec else None) or "").parent
        lexicon = hashlib.sha256((package / "en" / "en-sentiment.xml").read_bytes()).hexdigest()
        text = f"version:{version('textblob')}|lexicon:sha256 {lexicon[:12]}|aggregate:mean"
        return {"polarity": f"textblob PatternAnalyzer polarity|{text}"}

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 2): the value and 1."""
        return {"polarity": Scores.mean([polarity(row.prediction) for row in rows])}
