"""Formats: whether a reply that was asked for in a form has that form. Here JSON."""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NoReturn

from tuner.evaluation.metric import Kind, Metric, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.evaluation.predictions import Prediction

MOST = 0.9  # share of references in the form from which on a set is taken to ask for it


class Format(Metric):
    """Mean share of a format's checks that replies pass, 0 to 1, over the rows that ask for it.

    A row asks for the format that its `expects["format"]` names. Where no row names any, it asks
    for it if its reference passes every check and 90 % of the set's references do. Other rows have
    no value.

    Attributes:
        format: what `expects["format"]` calls it.
    """

    kind: ClassVar[Kind] = "format"
    needs_reference: ClassVar[bool] = False
    format: ClassVar[str]

    @abstractmethod
    def checks(self, text: str) -> tuple[bool, ...]:
        """Returns what the format asks for, and whether the text has it; as many for any text."""

    def applies(self, rows: Sequence[Prediction]) -> bool:
        """Whether any row asks for the format."""
        return any(self._asked(rows))

    def signatures(self) -> dict[str, str]:
        """Returns the number of checks."""
        text = f"version:1|checks:{len(self.checks(''))}|aggregate:mean"
        return {key: f"tuner {key}|{text}" for key in self.keys}

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 2): the value and 1."""
        shares = [
            self._share(row.prediction) if asked else float("nan")
            for row, asked in zip(rows, self._asked(rows), strict=True)
        ]
        return {key: Scores.mean(shares) for key in self.keys}

    def _share(self, text: str) -> float:
        passed = self.checks(text)
        return sum(passed) / len(passed)

    def _asked(self, rows: Sequence[Prediction]) -> list[bool]:
        if any("format" in row.expects for row in rows):
            return [row.expects.get("format") == self.format for row in rows]
        passed = [all(self.checks(row.reference)) for row in rows]
        return passed if sum(passed) >= MOST * len(rows) else [False] * len(rows)


class JsonFormat(Format):
    """Whether the reply is a JSON object or array and nothing else, 0 or 1 a row.

    As RFC 8259 has it: a code fence, a comment, a word before or after, NaN and Infinity are
    errors, for what reads the reply stumbles over them too. So is nesting that Python cannot read.
    """

    keys: ClassVar[tuple[str, ...]] = ("json_format",)
    paper: ClassVar[str] = "https://www.rfc-editor.org/rfc/rfc8259"
    format: ClassVar[str] = "json"

    def checks(self, text: str) -> tuple[bool, ...]:
        """Returns whether the text parses as an object or an array."""
        try:
            # numbers stay text: Python refuses to convert those of thousands of digits
            found = json.loads(text, parse_constant=_refuse, parse_int=str, parse_float=str)
        except (ValueError, RecursionError):
            return (False,)
        return (isinstance(found, dict | list),)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"JSON has no {constant}")
