"""A rater's sheet: the same items, as blind as on the page, in a CSV file."""

from __future__ import annotations

import csv
import io
import os
from typing import TYPE_CHECKING

from tuner.errors import UserError, nearest
from tuner.evaluation.predictions import write_atomically
from tuner.rating.desk import TIE, Desk
from tuner.rating.items import rater_name
from tuner.spreadsheet import MARK, guard, unguard
from tuner.visible import visible
from tuner.written import refuse_device

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tuner.rating.store import Rating, Store
    from tuner.rating.study import Answers, Study

FIXED = ("study", "rater", "item", "prompt")
LONGEST_CELL = 10_000_000  # characters; the csv module's own limit is too small for some answers


def write_sheet(file: Path, desk: Desk) -> int:
    """Write the sheet of a rater; what is stored of the rater already is filled in.

    Args:
        file: a CSV file, which is made new.
        desk: the rater's work.

    Returns:
        The number of items.

    Raises:
        UserError: the file is there already, or cannot be written.
    """
    if os.path.lexists(file):
        raise UserError(f"--export: {file} is there already; choose another name")
    sheet = io.StringIO(newline="")
    writer = csv.writer(sheet)
    writer.writerow(guard(name) for name in _header(desk))
    writer.writerows([guard(cell) for cell in row] for row in _rows(desk))
    try:
        write_atomically(file, MARK + sheet.getvalue())
    except OSError as error:
        raise UserError(f"--export: cannot write {file}: {error.strerror}") from error
    return len(desk.items)


def read_sheet(file: Path, study: Study, answers: Answers, store: Store) -> list[Rating]:
    """Read the ratings of a filled-in sheet; empty cells say nothing.

    Args:
        file: a CSV file that `write_sheet` made, separated by commas, semicolons or tabs.
        study: what is rated.
        answers: its texts.
        store: where the ratings are.

    Returns:
        The ratings, all of them checked.

    Raises:
        UserError: a line is wrong; the message gives file and line.
    """
    csv.field_size_limit(LONGEST_CELL)
    try:
        refuse_device(file, "--import")
        with file.open(encoding="utf-8-sig", newline="") as lines:
            first = lines.readline()
            lines.seek(0)
            delimiter = max(",;\t", key=first.count)
            return list(_read(file, csv.reader(lines, delimiter=delimiter), study, answers, store))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--import: cannot read {file}: {error}") from error


def _header(desk: Desk) -> list[str]:
    letters = desk.items[0].letters
    scores = [_score(letter, name) for letter in letters for name in desk.study.criteria]
    pairs = [_pair(pair) for pair in desk.items[0].pairs]
    return [*FIXED, *map(_answer, letters), *scores, *pairs, "comment"]


def _answer(letter: str) -> str:
    return f"answer {letter}"


def _score(letter: str, criterion: str) -> str:
    return f"{letter}: {visible(criterion)}"


def _pair(pair: tuple[str, str]) -> str:
    return f"better: {pair[0]}, {pair[1]} or {TIE}"


def _rows(desk: Desk) -> Iterator[list[str]]:
    pages = zip(desk.items, desk.marks(), strict=True)
    for number, (item, marks) in enumerate(pages, start=1):
        asked, given, answers = desk.shown(item)
        yield [
            desk.study.key,
            desk.rater,
            str(number),
            given or asked,
            *answers.values(),
            *(
                marks.scores.get((letter, criterion), "")
                for letter in item.letters
                for criterion in desk.study.criteria
            ),
            *(marks.preferences.get(pair, "") for pair in item.pairs),
            marks.comment,
        ]


def _read(
    file: Path, rows: Iterator[list[str]], study: Study, answers: Answers, store: Store
) -> Iterator[Rating]:
    desks: dict[str, Desk] = {}
    header: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    line = 1
    while True:
        try:
            cells = [unguard(cell) for cell in next(rows)]
            if not header:
                header = cells
                _check_header(header, Desk(study, answers, store, ""))
            elif any(cells):
                if len(cells) != len(header):
                    raise UserError(f"{len(cells)} cells, the first line has {len(header)}")
                row = dict(zip(header, cells, strict=True))
                desk = _desk(row, desks, study, answers, store)
                key = (desk.rater, row["item"].strip())
                if key in seen:
                    raise UserError(f"item {key[1]} stands on line {seen[key]} already")
                seen[key] = line
                yield from _ratings(row, desk)
        except StopIteration:
            break
        except (UserError, csv.Error) as error:
            raise UserError(f"{file}:{line}: {error}") from error
        line = rows.line_num + 1  # pyright: ignore  # of a csv.reader
    if not header:
        raise UserError(f"{file}:1: the file is empty")


def _check_header(header: list[str], desk: Desk) -> None:
    expected = _header(desk)
    for name in expected:
        if header.count(name) != 1:
            hint = nearest(name, set(header)) if header else ""
            raise UserError(f"there must be one column '{name}'. {hint}")
    for name in header:
        if name not in expected:
            raise UserError(f"unknown column '{visible(name)}'. {nearest(name, expected)}")


def _desk(
    row: dict[str, str], desks: dict[str, Desk], study: Study, answers: Answers, store: Store
) -> Desk:
    if row["study"].strip() != study.key:
        raise UserError(
            f"this line belongs to study '{visible(row['study'])}', the ratings here to "
            f"'{study.key}': other answers, another seed or another rubric"
        )
    rater = rater_name(row["rater"])
    if rater not in desks:
        desks[rater] = Desk(study, answers, store, rater)
    return desks[rater]


def _ratings(row: dict[str, str], desk: Desk) -> Iterator[Rating]:
    numbers = {str(number): item for number, item in enumerate(desk.items, start=1)}
    if (item := numbers.get(row["item"].strip())) is None:
        raise UserError(f"item must be 1 to {len(numbers)}, not '{visible(row['item'])}'")
    for letter in item.letters:
        for criterion in desk.study.criteria:
            if value := row[name := _score(letter, criterion)].strip():
                try:
                    yield desk.score(item, letter, criterion, value)
                except UserError as error:
                    raise UserError(f"column '{name}': {error}") from error
    for pair in item.pairs:
        if value := row[name := _pair(pair)].strip():
            choice = TIE if value.lower() == TIE else value.upper()
            try:
                yield desk.preference(item, pair, choice)
            except UserError as error:
                raise UserError(f"column '{name}': {error}") from error
    if row["comment"]:
        yield desk.comment(item, row["comment"])
