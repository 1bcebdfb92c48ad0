"""What every data set promises; runs on each one that is found."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tuner.data.example import Example, Rejected, Skipped
from tuner.data.sources import Source
from tuner.plugins import subclasses

SOURCES = subclasses(Source)
OTHERS = ("Mixture", "TwitterSupport")  # made of other sources; puts conversations together
PLAIN = {name: kind for name, kind in SOURCES.items() if name not in OTHERS}
CELLS: list[Any] = [None, "", " ", "a", 7, float("nan"), True, ["a"], {"a": 1}, "\ud800", "\x00"]


class Row(dict[str, Any]):
    """Has one thing in all of its cells, whatever they are called."""

    def __init__(self, cell: Any) -> None:
        super().__init__(a=cell)
        self.cell = cell

    def get(self, key: str, default: Any = None) -> Any:
        return self.cell

    __getitem__ = get


@pytest.mark.parametrize("kind", SOURCES.values(), ids=SOURCES)
def test_it_says_what_it_is(kind: type[Source]) -> None:
    assert kind.__doc__
    assert kind.licence
    taken = inspect.signature(kind).parameters
    assert {"limit", "seed"} <= taken.keys()
    assert all(one.kind is not one.VAR_KEYWORD for one in taken.values())


@pytest.mark.parametrize("kind", PLAIN.values(), ids=PLAIN)
def test_a_row_becomes_an_example_or_is_accounted_for(kind: type[Source]) -> None:
    source: Any = kind(path="rows.csv")
    for row in [{}, *map(Row, CELLS)]:
        item = source._checked(row, "rows.csv:1")
        assert isinstance(item, Example | Rejected | Skipped)
        if isinstance(item, Example):
            "".join(turn.content for turn in item.messages).encode()
        else:
            assert item.reason
