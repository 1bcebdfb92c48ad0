"""Rows from a file or from the hub, strictly decoded, with their place for error messages."""

from __future__ import annotations

import csv
import difflib
import gzip
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

from tuner.data.example import Rejected
from tuner.errors import UserError, nearest
from tuner.sums import sha256_of

Row = dict[str, Any]
Located = tuple[str, Row | Rejected]
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
PLAIN = "utf-8-sig"  # UTF-8, with or without a byte order mark
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
LARGEST_CELL = 64 * 1024 * 1024  # characters; the csv module's default of 131,072 is too small


def read_file(path: str | os.PathLike[str], encoding: str = PLAIN) -> Iterator[Located]:
    """Rows of a JSONL, JSON (list of objects), CSV (with header) or Parquet file.

    Rows come as `(file:line, row)`, one by one but for JSON, which is read as a whole. A row that
    is no JSON object or has the wrong number of cells comes as `Rejected`, so that the caller can
    count it. All but Parquet may be compressed by gzip (`.jsonl.gz`).

    Args:
        path: the file; its ending tells the format.
        encoding: of the text, decoded strictly.

    Raises:
        UserError: no such file, a folder, an unknown ending or encoding, text in another encoding,
            or no valid JSON list.
    """
    file = existing(path)
    packed = file.suffix.lower() == ".gz"
    ending = (file.with_suffix("") if packed else file).suffix.lower()
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv}
    if packed and ending == ".parquet":
        raise UserError(f"{file}: Parquet is not read out of .gz, as it is compressed itself")
    if ending not in SUFFIXES or (packed and ending not in readers):
        raise UserError(f"{file}: unknown ending '{ending}'. {nearest(ending, SUFFIXES)}")
    try:
        "a".encode(encoding)
    except (LookupError, ValueError) as error:  # "hex" is a codec, but of no text
        raise UserError(
            f"data.source.encoding: there is no encoding '{encoding}'; common ones are utf-8-sig, "
            "utf-16, cp1252 and latin-1"
        ) from error
    try:
        if ending == ".parquet":
            yield from _read_parquet(file)
            return
        opened = gzip.open if packed else open
        with opened(file, "rt", encoding=encoding, newline="") as text:
            yield from readers[ending](file, cast("TextIO", text))
    except UnicodeError as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
        name = "UTF-8" if encoding == PLAIN else encoding
        raise UserError(
            f"{_undecodable(file, encoding, packed)}: not {name} ({reason}). Save the file as "
            "UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 (Conversations can read others: "
            "data.source.encoding)"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{file}: a broken gzip file ({error}); compress it again") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error


def existing(path: str | os.PathLike[str]) -> Path:
    """The file of a path; `~` is the user's home.

    Raises:
        UserError: there is no such file, it is a folder or a device, or it lies outside the folders
            of the environment variable TUNER_DATA_ROOTS, where that is set.
    """
    try:
        file = Path(path).expanduser()
        _refuse_outside(file)
        if file.is_symlink() and not file.exists():
            raise UserError(f"data.source.path: {file} is a link to a file that is not there")
        if not file.exists():
            raise UserError(f"data.source.path: no such file: {file}.{_near(file)}")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (RuntimeError, ValueError) as error:  # no such user's home; a null character
        raise UserError(f"data.source.path: {path}: {error}") from error
    if file.is_dir():
        raise UserError(f"data.source.path: {file} is a folder; name one {'/'.join(SUFFIXES)} file")
    if not file.is_file():  # a pipe would be waited for without end
        raise UserError(f"data.source.path: {file} is no ordinary file")
    return file


def _refuse_outside(file: Path) -> None:
    """Keep to the folders that whoever runs a shared machine allows, links followed."""
    roots = [root for root in os.environ.get("TUNER_DATA_ROOTS", "").split(os.pathsep) if root]
    allowed = [Path(root).expanduser().resolve() for root in roots]
    if roots and not any(file.resolve().is_relative_to(root) for root in allowed):
        raise UserError(
            f"data.source.path: {file} is outside the folders that data may be read from: "
            f"{', '.join(roots)} (TUNER_DATA_ROOTS)"
        )


def read_hub(name: str, revision: str | None, columns: set[str]) -> Iterator[Located]:
    """Rows of the hub data set `name`, split `train`, as `(name[row], row)`.

    Raises:
        UserError: the name is none of the hub's, the set or the hub cannot be reached, or a column
            of `columns` is missing.
    """
    import datasets

    # The client would read a folder of that name, which may change without another commit.
    if not HUB_NAME.fullmatch(name) or Path(name).exists():
        raise UserError(
            f"data.source.name: '{name}' is no name of a hub set alone, such as user/set, or there "
            "is a file or folder of that name here; read a file with --data.source.path FILE"
        )

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
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        UserError: it cannot be read.
    """
    file = existing(path)
    try:
        return sha256_of(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error


def _near(file: Path) -> str:
    """The files beside a missing one; in a large folder only those with a like name."""
    names = [p.name for p in file.parent.glob("*")] if file.parent.is_dir() else []
    shown = names if len(names) <= 20 else difflib.get_close_matches(file.name, names, n=5)
    return f" {nearest(file.name, shown)}" if shown else ""


def _undecodable(file: Path, encoding: str, packed: bool) -> str:
    """`file:line` of the first line that cannot be decoded, where lines end with one byte."""
    if packed or encoding.lower().replace("-", "").startswith(("utf16", "utf32")):
        return str(file)
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode(encoding)
            except UnicodeError:
                return f"{file}:{number}"
    return str(file)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _read_jsonl(file: Path, text: TextIO) -> Iterator[Located]:
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            if number == 1 and line.strip() == "[":
                raise UserError(
                    f"{where}: a JSON list, not one object a line; name the file .json"
                ) from None
            yield where, Rejected("not_json", where)
            continue
        if number == 1 and isinstance(row, list):
            raise UserError(f"{where}: a JSON list, not one object a line; name the file .json")
        yield where, row if isinstance(row, dict) else Rejected("not_an_object", where)


def _read_json(file: Path, text: TextIO) -> Iterator[Located]:
    content = text.read()
    try:
        rows = json.loads(content) if content.strip() else []
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: not valid JSON ({error}). One object per line? Name it .jsonl"
        ) from error
    if not isinstance(rows, list):
        raise UserError(f"{file}: expected a list of objects, found {type(rows).__name__}")
    for number, row in enumerate(rows):
        where = f"{file}[{number}]"
        yield where, row if isinstance(row, dict) else Rejected("not_an_object", where)


def _read_csv(file: Path, text: TextIO) -> Iterator[Located]:
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(text, strict=True)  # an open quote would swallow the rows behind it
    line = 1
    try:
        names = next(reader, [])
        _refuse_doubled(f"{file}:1", names)
        line = reader.line_num + 1
        for cells in reader:
            where, line = f"{file}:{line}", reader.line_num + 1
            if len(cells) == len(names):
                yield where, dict(zip(names, cells, strict=True))
            elif cells:  # an empty line is no row
                yield where, Rejected("wrong_number_of_cells", where)
    except csv.Error as error:
        raise UserError(
            f"{file}:{line}: not valid CSV: {error}. Is a quote left open there?"
        ) from error


def _refuse_doubled(where: str, names: list[str]) -> None:
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubled:
        raise UserError(f"{where}: column named twice: {', '.join(map(repr, doubled))}")


def _read_parquet(file: Path) -> Iterator[Located]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        _refuse_doubled(f"{file}", table.schema_arrow.names)
        batches = table.iter_batches(batch_size=1024)
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(rows):
            yield f"{file}[{number}]", row
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        # Bytes that are no text, moments outside the calendar of Python.
        raise UserError(f"{file}: not a valid Parquet file ({error})") from error
