"""Several sources as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from tuner.data.example import Example, Item, Rejected
from tuner.data.reading import Row
from tuner.data.sources.base import Source, limited
from tuner.errors import UserError


class Mixture(Source):
    """Examples of several sources, one source after the other; `part` in their meta names it.

    With `weights`, the parts are cut to these proportions and no example is repeated: the part
    that has fewest for its weight is used whole. They are those of the rows before curation, which
    may drop more of one part. Batches are drawn from all parts alike.

    Args:
        sources: the parts; each has its own `path`, `limit` and `seed`.
        path: not for a mixture: the parts have their own.
        limit: use this many examples of the whole, drawn at random; all when null.
        seed: seed of that draw.
        weights: one positive number for each part, such as `[3, 1]`; all examples when null.
    """

    def __init__(
        self,
        sources: list[Source],
        path: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        weights: list[float] | None = None,
    ) -> None:
        super().__init__(path, limit, seed)
        if path is not None or not sources:
            raise UserError("data.source: Mixture needs `sources` and takes no `path`")
        if weights is not None and (
            len(weights) != len(sources) or not all(0 < w < float("inf") for w in weights)
        ):
            raise UserError(
                f"data.source.weights: {weights} is not allowed; give one positive number for each "
                f"of the {len(sources)} sources, or null"
            )
        self.sources = sources
        self.weights = weights

    def example(self, row: Row, where: str) -> Example | Rejected:
        """Never called: the parts turn their own rows into examples."""
        raise AssertionError("a mixture reads no rows of its own")

    def items(self) -> Iterator[Item]:
        """See the base class; with weights the parts are read twice, to count them first."""
        parts = [self._part(place) for place in range(len(self.sources))]
        if self.weights is None:
            return limited(chain.from_iterable(parts), self.limit, self.seed)
        counts = [sum(isinstance(item, Example) for item in s.items()) for s in self.sources]
        kept = proportional(counts, self.weights, self.limit)
        return chain.from_iterable(
            limited(part, count, self.seed) for part, count in zip(parts, kept, strict=True)
        )

    def _part(self, place: int) -> Iterator[Item]:
        """The items of a source, the examples marked with its name."""
        names = [type(source).__name__ for source in self.sources]
        name = names[place] if names.count(names[place]) == 1 else f"{names[place]} {place + 1}"
        rejected, empty = "", True
        for item in self.sources[place].items():
            if isinstance(item, Example):
                empty = False
                yield replace(item, meta={**item.meta, "part": name})
            else:
                rejected = rejected or f" The first: {item.where}: {item.reason}"
                yield item
        if empty:
            raise UserError(f"data.source.sources: no row of {name} can be used.{rejected}")

    def provenance(self) -> dict[str, Any]:
        """See the base class."""
        parts = [source.provenance() for source in self.sources]
        licences = ", ".join(sorted({str(part["licence"]) for part in parts}))
        return {
            "name": "Mixture",
            "licence": licences,
            "limit": self.limit,
            "seed": self.seed,
            "weights": self.weights,
            "sources": parts,
        }


def proportional(counts: Sequence[int], weights: Sequence[float], limit: int | None) -> list[int]:
    """How many examples of each part keep the proportions; as many as there are, or `limit`."""
    whole = min(count / weight for count, weight in zip(counts, weights, strict=True))
    if limit is not None:
        whole = min(whole, limit / sum(weights))
    return [round(whole * weight) for weight in weights]
