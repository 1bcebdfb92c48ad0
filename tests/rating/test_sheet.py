"""Sheets: blind, safe to open in a spreadsheet, and read back with every mistake named."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from comparisons import SYSTEMS, begin, write_comparison
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import UserError
from tuner.rating.desk import Desk
from tuner.rating.sheet import read_sheet, write_sheet
from tuner.rating.store import Rating, Store
from tuner.rating.study import Answers, Study, read_answers
from tuner.spreadsheet import guard, unguard

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "'=1", "\uff1d1", "''=1"]


class Sheet:
    """A comparison and what can be done with its sheets."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.folder = write_comparison(folder, **options)  # pyright: ignore
        self.study, self.store = begin(folder)
        self.answers: Answers = read_answers(folder)

    def write(self, rater: str = "Ann") -> Path:
        file = self.folder / f"sheet-{len(list(self.folder.glob('*.csv')))}.csv"
        write_sheet(file, Desk(self.study, self.answers, self.store, rater))
        return file

    def read(self, file: Path) -> list[Rating]:
        return read_sheet(file, self.study, self.answers, self.store)


def fill(file: Path, change: Callable[[list[list[str]]], object], delimiter: str = ",") -> Path:
    rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline="")))
    change(rows)
    with file.open("w", encoding="utf-8", newline="") as target:
        csv.writer(target, delimiter=delimiter).writerows(rows)
    return file


def complete(rows: list[list[str]]) -> None:
    scores = [n for n, name in enumerate(rows[0]) if name[:3] in ("A: ", "B: ")]
    for row in rows[1:]:
        for n in scores:
            row[n] = "5" if rows[0][n].startswith("A") else "2"
        row[-2], row[-1] = "a", "=cmd|' /C calc'!A0"


def test_what_is_filled_in_reaches_its_system(tmp_path: Path) -> None:
    sheet = Sheet(tmp_path)
    blank = sheet.write()
    assert all(secret not in blank.read_text() for secret in (*SYSTEMS, "id0"))
    assert sheet.read(blank) == []
    ratings = sheet.read(fill(blank, complete))
    assert len(ratings) == 6 * (2 * 5 + 1 + 1)
    assert sheet.store.save(ratings) == len(ratings)
    assert sheet.store.save(sheet.read(blank)) == 0, "a second time changes nothing"
    desk = Desk(sheet.study, sheet.answers, sheet.store, "Ann")
    assert all(desk.done())
    best = {item.id: item.systems[0] for item in desk.items}
    for rating in ratings:
        if rating.kind == "score":
            assert (rating.value == "5") == (rating.system == best[rating.item])
        if rating.kind == "preference":
            assert rating.value == best[rating.item]
    again = sheet.write()
    assert sorted(map(repr, sheet.read(again))) == sorted(map(repr, ratings)), (
        "it can be gone on with"
    )
    assert "'=cmd" in again.read_text(), "a comment is no formula either"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_spreadsheets_separate_cells_by_other_marks(delimiter: str, tmp_path: Path) -> None:
    sheet = Sheet(tmp_path)
    assert len(sheet.read(fill(sheet.write(), complete, delimiter))) == 6 * 12


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    rubric = {"=HYPERLINK(1)": "x", "-tone": "y"}
    sheet = Sheet(tmp_path, texts=FORMULAS, rubric=rubric)
    file = sheet.write("@Ann")
    rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline="")))
    assert len(rows) == len(FORMULAS) + 1
    for cell in (cell for row in rows for cell in row):
        assert not cell.lstrip(" \n").startswith(tuple("=+-@\t\r\uff1d"))
    scored = sheet.read(fill(file, complete))
    assert {rating.rater for rating in scored} == {"@Ann"}


@given(st.text(alphabet="'=+-@ \n\ta\uff0b", max_size=6))
def test_guarding_loses_nothing(text: str) -> None:
    assert unguard(guard(text)) == text
    assert not guard(text).startswith(tuple("=+-@\t\r"))


def cell(row: int, column: int | str, value: str) -> Callable[[list[list[str]]], None]:
    def change(rows: list[list[str]]) -> None:
        complete(rows)
        rows[row][rows[0].index(column) if isinstance(column, str) else column] = value

    return change


@pytest.mark.parametrize(
    ("change", "row", "message"),
    [
        (cell(2, "A: tone", "6"), 2, "column 'A: tone': a score is 1, 2, 3, 4 or 5, not '6'"),
        (cell(2, "A: tone", "good"), 2, "not 'good'"),
        (cell(3, "better: A, B or tie", "C"), 3, "the better one is A, B or tie, not 'C'"),
        (cell(1, "item", "99"), 1, "item must be 1 to 6, not '99'"),
        (cell(1, "item", "2"), 2, "item 2 stands on line 2 already"),
        (cell(1, "rater", ""), 1, "a rater's name has"),
        (cell(1, "study", "feedfeedfeed"), 1, "belongs to study 'feedfeedfeed'"),
        (cell(1, "comment", "x" * 5001), 1, "at most 5,000"),
        (cell(0, "A: tone", "A: ton"), 0, "one column 'A: tone'. Did you mean 'A: ton'?"),
        (cell(0, "comment", "A: tone"), 0, "one column 'A: tone'"),
        (lambda rows: rows[2].pop(), 2, "cells, the first line has"),
        (lambda rows: rows[0].append("more") or rows[1].append(""), 0, "unknown column 'more'"),
        (lambda rows: rows.clear(), 0, "the file is empty"),
    ],
)
def test_mistakes_are_named_with_their_line(
    change: Callable[[list[list[str]]], object], row: int, message: str, tmp_path: Path
) -> None:
    sheet = Sheet(tmp_path)
    file = fill(sheet.write(), change)
    with pytest.raises(UserError) as error:
        sheet.read(file)
    line = 2 * row or 1  # a prompt has two lines
    assert f"{file}:{line}: " in str(error.value)
    assert message in str(error.value)


def test_a_line_is_counted_where_it_begins(tmp_path: Path) -> None:
    sheet = Sheet(tmp_path, texts=["three\nlines\nhere"] * 3)
    file = fill(sheet.write(), cell(2, "A: tone", "9"))
    with pytest.raises(UserError) as error:
        sheet.read(file)
    line = int(str(error.value).removeprefix(f"{file}:").split(":")[0])
    assert file.read_text().splitlines()[line - 1].startswith(sheet.study.key)


def test_files_that_are_no_sheets(tmp_path: Path) -> None:
    sheet = Sheet(tmp_path)
    for content in (b"\xff\xfe\x00binary", b'"never closed', b"PK\x03\x04"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(UserError, match="x"):
            sheet.read(tmp_path / "x")
    with pytest.raises(UserError, match="cannot read"):
        sheet.read(tmp_path / "nothere.csv")
    file = sheet.write()
    with pytest.raises(UserError, match="there already"):
        write_sheet(file, Desk(sheet.study, sheet.answers, sheet.store, "Ben"))


def test_a_sheet_of_another_study_is_refused(tmp_path: Path) -> None:
    theirs = Sheet(tmp_path / "a", count=5).write()
    with pytest.raises(UserError, match="belongs to study"):
        Sheet(tmp_path / "b").read(theirs)


def test_the_sheet_and_the_page_show_the_same(tmp_path: Path) -> None:
    sheet = Sheet(tmp_path)
    desk = Desk(sheet.study, sheet.answers, Store(tmp_path), "Ann")
    rows = list(csv.DictReader(sheet.write().open(encoding="utf-8-sig")))
    for item, row in zip(desk.items, rows, strict=True):
        asked, _, answers = desk.shown(item)
        assert asked in row["prompt"]
        assert answers == {"A": row["answer A"], "B": row["answer B"]}
    assert isinstance(sheet.study, Study)
