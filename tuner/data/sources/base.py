"""What every data set has in common."""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tuner.data.example import Example, Item, Rejected, Skipped, digest, fraction
from tuner.data.reading import Located, Row, hub_commit, read_file, read_hub, sha256
from tuner.errors import UserError


@dataclass
class Rows:
    """What a source gives: its examples, and an account of every row that did not become one."""

    examples: list[Example]
    seen: int
    skipped: Counter[str] = field(default_factory=Counter[str])
    rejected: list[Rejected] = field(default_factory=list[Rejected])


class Source(ABC):
    """A data set: yields examples and knows where they come from.

    Subclasses name their hub data set and licence and turn one row into one example.

    Args:
        path: a local file (JSONL, JSON or CSV) instead of the hub data set.
        limit: use this many examples, drawn at random; all when null.
        seed: seed of that draw.
        revision: branch, tag or commit of the hub data set.
    """

    hub: ClassVar[str | None] = None
    licence: ClassVar[str] = "as stated by its owner"
    hint: ClassVar[str] = ""
    """What rows should look like, for the message about rows that do not."""

    required: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        path: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        revision: str | None = None,
    ) -> None:
        if limit is not None and limit < 1:
            raise UserError(f"data.source.limit: {limit} is not allowed; give 1 or more, or null")
        self.path = path
        self.limit = limit
        self.seed = seed
        self.revision = revision

    @abstractmethod
    def example(self, row: Row, where: str) -> Item:
        """Turn one row into an example; `Skipped` when the source's own filter passes over it."""

    def read(self) -> Iterator[Located]:
        """The raw rows with their place, from the file or the hub."""
        if self.path is not None:
            return read_file(self.path)
        if self.hub_name is None:
            raise UserError(f"data.source.path: {type(self).__name__} needs a file or a hub name")
        return read_hub(self.hub_name, self.revision, set(self.required))

    @property
    def hub_name(self) -> str | None:
        """The hub data set that is read when there is no `path`."""
        return self.hub

    def items(self) -> Iterator[Item]:
        """What each row became, in file order, read as it is asked for.

        With a `limit`, the examples come last, after all rows were seen.

        Raises:
            UserError: the file or the hub cannot be read, or has no rows.
        """
        return limited(self._items(), self.limit, self.seed)

    def _items(self) -> Iterator[Item]:
        where = ""
        for where, raw in self.read():
            yield raw if isinstance(raw, Rejected) else self._checked(raw, where)
        if not where:
            raise UserError(f"data.source: {self.path or self.hub_name}: there are no rows in it")

    def rows(self) -> Rows:
        """All items at once, sorted by what they are."""
        account = Rows([], seen=0)
        for item in self.items():
            account.seen += 1
            if isinstance(item, Rejected):
                account.rejected.append(item)
            elif isinstance(item, Skipped):
                account.skipped[item.reason] += 1
            else:
                account.examples.append(item)
        return account

    def _checked(self, row: Row, where: str) -> Item:
        """The example of a row, unless a cell holds no text or text that is no Unicode."""
        try:
            item = self.example(row, where)
        except NotText as error:
            return Rejected(f"not_text({error})", where)
        if isinstance(item, Example):
            texts = [item.group, item.category, *item.meta, *map(str, item.meta.values())]
            try:
                "".join([m.content for m in item.messages] + texts).encode()
            except UnicodeEncodeError:
                return Rejected("lone_surrogate", where)
        return item

    def provenance(self) -> dict[str, Any]:
        """Where the rows come from, for the data card: plain JSON values."""
        base: dict[str, Any] = {"name": type(self).__name__, "licence": self.licence}
        base |= {"limit": self.limit, "seed": self.seed}
        if self.path is not None:
            return base | {"path": str(self.path), "sha256": sha256(self.path)}
        assert self.hub_name is not None
        commit = hub_commit(self.hub_name, self.revision)
        return base | {"hub": self.hub_name, "revision": self.revision, "commit": commit}


def limited(items: Iterable[Item], limit: int | None, seed: int) -> Iterator[Item]:
    """Keep `limit` examples, drawn at random, in their order; the rest is skipped as over_limit.

    The rank of an example is a hash of its content: the draw survives a re-ordering of the file.
    Memory holds no more than `limit` examples.
    """
    if limit is None:
        yield from items
        return
    drawn: list[tuple[float, int, Example]] = []  # a heap, the highest rank on top
    for place, item in enumerate(items):
        if not isinstance(item, Example):
            yield item
            continue
        ranked = (-fraction(seed, item.id), -place, item)
        over = heapq.heappushpop(drawn, ranked) if len(drawn) == limit else None
        if over is None:
            heapq.heappush(drawn, ranked)
        else:
            yield Skipped("over_limit", str(over[2].meta.get("where", "")))
    yield from (item for _, _, item in sorted(drawn, key=lambda entry: -entry[1]))


class NotText(Exception):
    """A cell that should hold text holds a list, an object or a truth value."""


def text_of(row: Row, key: str) -> str:
    """The text in a cell, stripped; empty for a missing, null or NaN cell, `str` of a number.

    Raises:
        NotText: the cell holds something else; `Source.rows` counts the row as rejected.
    """
    value = row.get(key)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise NotText(key)
    return str(value).strip()


def group_of(text: str) -> str:
    """A group for rows without one: equal texts, whatever their case and spacing, are one group."""
    return digest(" ".join(text.lower().split()))
