"""Several sources as one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from tuner.data.example import Example, Item, Rejected
from tuner.data.reading import Row
from tuner.data.sources.base import Source, limited
from tuner.errors import UserError


class Mixture(Source):
    """All examples of several sources, one after the other.

    Args:
        sources: the parts; each has its own `path`, `limit` and `seed`.
        path: not for a mixture: the parts have their own.
        limit: use this many examples of the whole, drawn at random; all when null.
        seed: seed of that draw.
    """

    def __init__(
        self,
        sources: list[Source],
        path: str | None = None,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(path, limit, seed)
        if path is not None or not sources:
            raise UserError("data.source: Mixture needs `sources` and takes no `path`")
        self.sources = sources

    def example(self, row: Row, where: str) -> Example | Rejected | None:
        """Never called: the parts turn their own rows into examples."""
        raise AssertionError("a mixture reads no rows of its own")

    def items(self) -> Iterator[Item]:
        """See the base class."""
        return limited(chain.from_iterable(s.items() for s in self.sources), self.limit, self.seed)

    def provenance(self) -> dict[str, Any]:
        """See the base class."""
        parts = [source.provenance() for source in self.sources]
        licences = ", ".join(sorted({str(part["licence"]) for part in parts}))
        return {"name": "Mixture", "licence": licences, "sources": parts}
