"""Classification: whether the reply is the right label, and how well each label is found."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tuner.errors import UserError
from tuner.evaluation.metric import Kind, Metric, Scores
from tuner.evaluation.words import is_punctuation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tuner.evaluation.predictions import Prediction

MOST_LABELS = 100
MOST_WORDS = 3
ROWS_PER_LABEL = 3


class Labels(Metric):
    """Accuracy and macro-F1 of replies that should be one of a few labels, both 0 to 1.

    Texts are compared casefolded, with single blanks and without punctuation at the ends; articles
    stay, since `A` may be a label. A reply is the label that it equals and else none: what is
    buried in a sentence does not count, for no reader could rely on it. macro_f1 is the plain mean
    over the labels that occur among a set's references of F1 = 2 tp / (expected + predicted), so a
    rare label counts as much as a frequent one; a reply that is no label lowers recall alone.
    The value of a row is 1 if it is right, under both keys.

    It applies where references look like labels: two or more different ones, each of at most 3
    words, and at least 3 rows a label on average.
    """

    keys: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    paper: ClassVar[str] = "https://arxiv.org/abs/1911.03347"
    kind: ClassVar[Kind] = "label"

    def applies(self, rows: Sequence[Prediction]) -> bool:
        """Whether the references look like labels."""
        expected = [label for row in rows if (label := normalise(row.reference))]
        distinct = set(expected)
        return (
            2 <= len(distinct) <= MOST_LABELS
            and len(expected) >= ROWS_PER_LABEL * len(distinct)
            and all(len(label.split()) <= MOST_WORDS for label in distinct)
        )

    def signatures(self) -> dict[str, str]:
        """Returns how texts become labels, and what the mean is taken over."""
        text = (
            "norm:casefold, blanks, outer punctuation|match:exact"
            f"|unicode:{unicodedata.unidata_version}"
        )
        return {
            "accuracy": f"tuner accuracy|version:1|{text}|aggregate:mean",
            "macro_f1": f"tuner macro_f1|version:1|{text}|labels:of the references",
        }

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies.

        Statistics are (n, 2) for accuracy: the value and 1; (n, 3 L) for macro_f1: for each of the
        L labels, in alphabetical order, whether it was found, written and expected.

        Raises:
            UserError: there are more than 100 different references.
        """
        expected = [normalise(row.reference) for row in rows]
        labels = sorted(set(expected) - {""})
        if len(labels) > MOST_LABELS:
            raise UserError(
                f"accuracy and macro_f1 are for labels, but there are {len(labels)} different "
                f"references; {MOST_LABELS} are allowed. For free text use exact_match or rougeL."
            )
        place = {label: index for index, label in enumerate(labels)}
        counts = np.zeros((len(rows), 3, len(labels)))
        correct = np.full(len(rows), np.nan)
        for index, (row, label) in enumerate(zip(rows, expected, strict=True)):
            if not label:
                continue
            written = normalise(row.prediction)
            correct[index] = counts[index, 0, place[label]] = written == label
            counts[index, 2, place[label]] = 1
            if written in place:
                counts[index, 1, place[written]] = 1
        return {
            "accuracy": Scores.mean(correct.tolist()),
            "macro_f1": Scores(correct.copy(), counts.reshape(len(rows), 3 * len(labels))),
        }

    def corpus(self, key: str, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns accuracy, (..., 2) -> (...), or macro-F1, (..., 3 L) -> (...), float64."""
        if key == "accuracy":
            return super().corpus(key, totals)
        counts = totals.reshape(*totals.shape[:-1], 3, totals.shape[-1] // 3)
        found, written, expected = counts[..., 0, :], counts[..., 1, :], counts[..., 2, :]
        present = expected > 0
        f1 = np.where(present, 2 * found / np.maximum(written + expected, 1), 0.0).sum(axis=-1)
        labels = present.sum(axis=-1)
        return np.divide(f1, labels, out=np.full(f1.shape, np.nan), where=labels > 0)


def normalise(text: str) -> str:
    """Leaves out case, blanks and outer punctuation; a text of punctuation alone keeps it."""
    text = " ".join(text.casefold().split())
    first = next((place for place, one in enumerate(text) if _is_inner(one)), None)
    if first is None:
        return text
    return text[first : next(end for end in range(len(text), 0, -1) if _is_inner(text[end - 1]))]


def _is_inner(character: str) -> bool:
    return not (character.isspace() or is_punctuation(character))
