"""Rows from a file or from the hub, strictly decoded, with their place for error messages."""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuner.data.example import Rejected
from tuner.errors import UserError, nearest

Row = dict[str, Any]
Located = tuple[str, Row | Rejected]
SUFFIXES = (".jsonl", ".json", ".csv")
LARGEST_CELL = 64 * 1024 * 1024  # characters; the csv module's default of 131,072 is too small


def read_file(path: str | os.PathLike[str]) -> Iterator[Located]:
    """Rows of a JSONL, JSON (list of objects) or CSV (with header) file as `(file:line, row)`.

    A row that is no JSON object or has the wrong number of cells comes as `Rejected`, so that the
    caller can count it.

    Raises:
        UserError: no such file, a folder, an unknown ending, not UTF-8, or no valid JSON list.
    """
    try:
        file = Path(path).expanduser()
        if not file.exists():
            raise UserError(f"data.source.path: no such file: {file}.{_near(file)}")
        if file.is_dir():
            raise UserError(
                f"data.source.path: {file} is a folder; name one {'/'.join(SUFFIXES)} file"
            )
        readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv}
        ending = file.suffix.lower()
        if ending not in readers:
            raise UserError(f"{file}: unknown ending '{ending}'. {nearest(ending, SUFFIXES)}")
        yield from readers[ending](file)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{_undecodable(Path(path).expanduser())}: not UTF-8 ({error.reason}). "
            "Save the file as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except RuntimeError as error:  # no such user's home
        raise UserError(f"data.source.path: {path}: {error}") from error


def read_hub(name: str, revision: str | None, columns: set[str]) -> Iterator[Located]:
    """Rows of the hub data set `name`, split `train`, as `(name[row], row)`.

    Raises:
        UserError: the set or the hub cannot be reached, or a column of `columns` is missing.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        table = datasets.load_dataset(name, split="train", revision=revision)
    except Exception as error:  # the clients raise their own and their HTTP library's errors
        raise UserError(
            f"data.source: cannot load '{name}' from the hub ({_first_line(error)}). Check the "
            "name and the connection, or give a local copy with --data.source.path FILE"
        ) from error
    missing = columns - set(table.column_names)
    if missing:
        raise UserError(
            f"data.source: '{name}' has no column {', '.join(sorted(missing))}. "
            f"It has: {', '.join(table.column_names)}"
        )
    for number, row in enumerate(table):
        yield f"{name}[{number}]", dict(row)


def hub_commit(name: str, revision: str | None) -> str | None:
    """The commit that the hub answers with for a data set; None where it cannot be told."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(name, revision=revision).sha
    except Exception:  # the rows may come from the local cache: the commit is then unknown
        return None


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _near(file: Path) -> str:
    """The files beside a missing one; in a large folder only those with a like name."""
    names = [p.name for p in file.parent.glob("*")] if file.parent.is_dir() else []
    shown = names if len(names) <= 20 else difflib.get_close_matches(file.name, names, n=5)
    return f" {nearest(file.name, shown)}" if shown else ""


def _undecodable(file: Path) -> str:
    """`file:line` of the first line that is not UTF-8."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"{file}:{number}"
    return str(file)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _read_jsonl(file: Path) -> Iterator[Located]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{file}:{number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                yield where, Rejected("not_json", where)
                continue
            yield where, row if isinstance(row, dict) else Rejected("not_an_object", where)


def _read_json(file: Path) -> Iterator[Located]:
    text = file.read_text(encoding="utf-8-sig")
    try:
        rows = json.loads(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: not valid JSON ({error}). One object per line? Name it .jsonl"
        ) from error
    if not isinstance(rows, list):
        raise UserError(f"{file}: expected a list of objects, found {type(rows).__name__}")
    for number, row in enumerate(rows):
        where = f"{file}[{number}]"
        yield where, row if isinstance(row, dict) else Rejected("not_an_object", where)


def _read_csv(file: Path) -> Iterator[Located]:
    csv.field_size_limit(LARGEST_CELL)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)  # an open quote would swallow the rows behind it
        line = 1
        try:
            names = next(reader, [])
            doubled = sorted(name for name, count in Counter(names).items() if count > 1)
            if doubled:
                raise UserError(f"{file}:1: column named twice: {', '.join(map(repr, doubled))}")
            line = reader.line_num + 1
            for cells in reader:
                where, line = f"{file}:{line}", reader.line_num + 1
                if len(cells) == len(names):
                    yield where, dict(zip(names, cells, strict=True))
                elif cells:  # an empty line is no row
                    yield where, Rejected("wrong_number_of_cells", where)
        except csv.Error as error:
            raise UserError(f"{file}:{line}: not valid CSV: {error}") from error
