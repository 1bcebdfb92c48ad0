"""What a metric is: replies in, one value and a few summable numbers per example out.

A metric describes every example by *sufficient statistics*: numbers whose sum over the examples is
all that is needed for the value of the whole set (n-gram counts for BLEU, value and 1 for a mean).
The statistics code can then resample any metric by adding rows up, without knowing which metric it
is.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from tuner.errors import UserError, nearest
from tuner.plugins import subclasses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tuner.evaluation.predictions import Prediction

Kind = Literal["overlap", "label", "likelihood", "behaviour", "tone", "format"]
"""What a metric looks at: reports put metrics of a kind side by side."""


@dataclass(frozen=True)
class Scores:
    """One metric's scores of n predictions.

    Attributes:
        rows: (n,) float64, a value per example; NaN for one that the metric says nothing about.
        statistics: (n, k) float64, the sufficient statistics of each example; 0 where the value
            is NaN.
    """

    rows: NDArray[np.float64]
    statistics: NDArray[np.float64]

    @classmethod
    def mean(cls, rows: Sequence[float]) -> Self:
        """Makes the scores of a metric whose value for a set is the mean over its examples.

        Args:
            rows: n values, NaN for examples without one.
        """
        values = np.asarray(rows, dtype=np.float64)
        known = np.isfinite(values)
        return cls(values, np.stack([np.where(known, values, 0.0), known], axis=-1))

    @classmethod
    def ratio(cls, above: Sequence[float], below: Sequence[float]) -> Self:
        """Makes the scores of a metric whose value for a set is a sum divided by another sum.

        Args:
            above: n numerators.
            below: n denominators, none below 0; an example with 0 has no value.
        """
        pair = np.stack(
            [np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)], axis=-1
        )
        known = pair[:, 1] > 0
        rows = np.divide(pair[:, 0], pair[:, 1], out=np.full(len(pair), np.nan), where=known)
        return cls(rows, np.where(known[:, None], pair, 0.0))


class Metric(ABC):
    """Looks at replies; a subclass in `metrics/` is found by being there.

    A subclass takes no arguments: another variant is another class with other keys.

    Attributes:
        keys: names under which results show the values; one pass may give several.
        paper: address or citation of the method.
        kind: what it looks at.
        higher_is_better: whether a larger value means a better reply; None where neither direction
            is better, as with the length of replies.
        needs_reference: whether an example without a reference has no score.
    """

    keys: ClassVar[tuple[str, ...]]
    paper: ClassVar[str]
    kind: ClassVar[Kind] = "overlap"
    higher_is_better: ClassVar[bool | None] = True
    needs_reference: ClassVar[bool] = True

    def applies(self, rows: Sequence[Prediction]) -> bool:
        """Whether the metric says something about replies of one system.

        Where it does not, a comparison leaves it out, unless it was asked for by name.
        """
        del rows
        return True

    @abstractmethod
    def signatures(self) -> dict[str, str]:
        """Returns what it takes to get the same number, by key: package, version, variant."""

    @abstractmethod
    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies of one system.

        Args:
            rows: replies with their prompts, references and expectations.

        Returns:
            The scores under each key. All systems of a comparison get statistics of one width:
            it may depend on references, not on replies.
        """

    def corpus(self, key: str, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turns summed statistics into the value of the set; here the mean, from `[value, 1]`.

        Args:
            key: one of `keys`.
            totals: (..., k) float64, statistics summed over the examples of a set.

        Returns:
            (...) float64; NaN for a set without a value.
        """
        del key
        below = totals[..., 1]
        return np.divide(totals[..., 0], below, out=np.full(below.shape, np.nan), where=below > 0)


def select_metrics(names: Sequence[str] | None = None) -> dict[str, Metric]:
    """Finds metrics by name.

    Args:
        names: keys (`rougeL`), class names (`Rouge`) or dotted paths of classes outside the project
            (`my_package.MyMetric`); None for every metric of the room.

    Returns:
        The metric that computes each chosen key; keys of one class share one instance.

    Raises:
        UserError: a name is none of these; the message lists what is allowed and the nearest match.
    """
    importlib.import_module("tuner.evaluation.metrics")
    concrete = subclasses(Metric).items()
    found = {name: cls() for name, cls in concrete}  # pyright: ignore[reportAbstractUsage]
    by_key = {key: metric for metric in found.values() for key in metric.keys}
    chosen: dict[str, Metric] = {}
    for name in by_key if names is None else names:
        if name in by_key:
            chosen[name] = by_key[name]
        elif name in found:
            chosen |= dict.fromkeys(found[name].keys, found[name])
        elif "." in name:
            metric = _import_metric(name)
            chosen |= dict.fromkeys(metric.keys, metric)
        else:
            raise UserError(f"Unknown metric '{name}'. {nearest(name, [*by_key, *found])}")
    return chosen


def _import_metric(path: str) -> Metric:
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"Metric '{path}' cannot be imported: {error}.") from error
    if not (isinstance(cls, type) and issubclass(cls, Metric)):
        raise UserError(f"Metric '{path}' is not a subclass of tuner.evaluation.metric.Metric.")
    return cls()
