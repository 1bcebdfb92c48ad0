"""The data section of a report: what the first run's data card says, in tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.evaluation.layout import Cell, Table, count_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_COUNTS = {"rows_in": "rows in", "rows_out": "rows out", "truncated": "trimmed"}
_LEAKS = {
    "prompts_exact": "question letter for letter",
    "prompts_in_train": "question but for case and punctuation",
    "near_duplicates_in_train": "question as a near duplicate",
    "prompts_13gram": "13 words of the question in a row",
    "replies_in_train": "the same reply",
    "replies_13gram": "13 words of the reply in a row",
}


def card_tables(card: Mapping[str, Any] | None) -> list[Table]:
    """Source, what was left out, splits and leaks.

    Args:
        card: the content of a data_card.json; None where there is none.
    """
    if card is None:
        return []
    source = [(key, str(value)) for key, value in card.get("source", {}).items()]
    source += [(name, count_of(card[key])) for key, name in _COUNTS.items() if key in card]
    source += [(f"redacted, {key}", count_of(n)) for key, n in card.get("redacted", {}).items()]
    dropped = [(reason, count_of(n)) for reason, n in card.get("dropped", {}).items()]
    keys = ("rows", "groups", "tokens", "supervised_tokens")
    splits = [
        (Cell(name), *(Cell(count_of(one.get(key))) for key in keys), Cell(one["sha256"][:12]))
        for name, one in card.get("splits", {}).items()
    ]
    leaks = card.get("leak_check", {})
    found = [(name, count_of(leaks.get(key))) for key, name in _LEAKS.items() if leaks]
    if leaks:
        found = [
            ("test rows", count_of(leaks["test_rows"])),
            ("of them contaminated", count_of(leaks["contaminated"])),
            *found,
        ]
    tables = [
        _pairs("Source", ("what", "value"), source, left=2),
        _pairs("Rejected rows", ("because", "rows"), dropped),
        Table("Splits", ("split", "rows", "groups", "tokens", "with loss", "sha256"), splits),
        _pairs("Test rows that training has seen", ("what", "rows"), found),
    ]
    return [table for table in tables if table.rows]


def _pairs(title: str, head: tuple[str, str], rows: list[tuple[str, str]], left: int = 1) -> Table:
    return Table(title, head, [(Cell(key), Cell(value)) for key, value in rows], left)
