"""Files as users have them: odd ones are read, broken ones are named."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.data.example import Rejected
from tuner.data.reading import read_file, read_hub, sha256
from tuner.errors import UserError

Write = Callable[..., str]


def rows(path: str) -> list[object]:
    return [row for _, row in read_file(path)]


def reasons(path: str) -> list[str | None]:
    return [row.reason if isinstance(row, Rejected) else None for row in rows(path)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "A.JSONL"])
def test_bom_crlf_and_any_case_of_the_ending(write: Write, name: str) -> None:
    text = {
        "jsonl": '{"p": "1"}\r\n\r\n{"p": "2"}\r\n',
        "json": '[{"p": "1"},\r\n{"p": "2"}]',
        "csv": "p\r\n1\r\n\r\n2\r\n",
    }[name.lower().split(".")[1]]
    assert rows(write(name, b"\xef\xbb\xbf" + text.encode())) == [{"p": "1"}, {"p": "2"}]


def test_csv_keeps_quoted_newlines_quotes_and_says_where_a_row_begins(write: Write) -> None:
    path = write("a.csv", 'a,b\n"one\r\ntwo","say ""hi"", then"\n\n3,4\n5\n6,7,8\n"",""\n')
    found = list(read_file(path))
    assert [row for _, row in found if not isinstance(row, Rejected)] == [
        {"a": "one\r\ntwo", "b": 'say "hi", then'},
        {"a": "3", "b": "4"},
        {"a": "", "b": ""},
    ]
    assert [where.rpartition(":")[2] for where, _ in found] == ["2", "5", "6", "7", "8"]
    assert reasons(path).count("wrong_number_of_cells") == 2


def test_jsonl_counts_bad_lines_and_reads_on(write: Write) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    bad = ['{"a": "tru', "[1]", "7", "nonsense", '{"a": ' + deep + "}", '{"a": ' + "9" * 5000 + "}"]
    path = write("a.jsonl", "\n".join([*bad, '{"a": "\u2028 stays one line"}']))
    assert reasons(path) == [
        "not_json",
        "not_an_object",
        "not_an_object",
        "not_json",
        "not_json",
        "not_json",
        None,
    ]
    assert [where.rpartition(":")[2] for where, _ in read_file(path)] == list("1234567")


def test_json_list_items_are_located(write: Write) -> None:
    path = write("a.json", json.dumps([{"a": 1}, 2]))
    assert [(where[-3:], type(row)) for where, row in read_file(path)] == [
        ("[0]", dict),
        ("[1]", Rejected),
    ]


BROKEN: dict[str, tuple[str, bytes, list[str]]] = {
    "object": ("a.json", b'{"a": 1}', ["a.json", "expected a list", "dict"]),
    "truncated": ("a.json", b'[{"a": 1}', ["a.json", "not valid JSON", ".jsonl"]),
    "deep": ("a.json", b"[" * 100_000, ["a.json", "not valid JSON"]),
    "cp1252": ("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}', ["a.jsonl:2", "UTF-8", "iconv"]),
    "cp1252.csv": ("a.csv", b"a\n1\n2\ncaf\xe9\n", ["a.csv:4", "UTF-8", "iconv"]),
    "utf16": ("a.json", "[]".encode("utf-16"), ["a.json:1", "UTF-8"]),
    "doubled": ("a.csv", b"a,b,a\n1,2,3\n", ["a.csv:1", "named twice", "'a'"]),
    "unnamed": ("a.csv", b",,b\n1,2,3\n", ["a.csv:1", "named twice", "''"]),
    "open quote": ("a.csv", b'a,b\n1,2\n"3,4\n5,6\n', ["a.csv:3", "not valid CSV"]),
    "open quote in header": ("a.csv", b'"a,b\n1,2\n', ["a.csv:1", "not valid CSV"]),
    "ending": ("a.jsnl", b"{}", ["'.jsnl'", "Did you mean '.jsonl'?", ".csv"]),
    "no ending": ("a", b"{}", ["unknown ending ''", ".jsonl"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_by_name_place_and_remedy(write: Write, case: str) -> None:
    name, content, words = BROKEN[case]
    with pytest.raises(UserError) as error:
        rows(write(name, content))
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.parametrize("others", [0, 200])
def test_missing_file_names_the_nearest_one(write: Write, tmp_path: Path, others: int) -> None:
    for number in range(others):
        write(f"{number}.bin", "")
    write("train.jsonl", "{}")
    with pytest.raises(UserError, match=r"no such file.*Did you mean 'train\.jsonl'") as error:
        rows(str(tmp_path / "trian.jsonl"))
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no/such/folder/a.jsonl", "no such file"),
        (".", "is a folder"),
        ("", "is a folder"),
        ("~nobody-has-this-name/a.jsonl", "home"),
        ("a" * 5000 + ".jsonl", "cannot be read"),
        ("nul\0byte.jsonl", "no such file"),
    ],
)
def test_hostile_paths(path: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        rows(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_file_without_permission(write: Write) -> None:
    path = write("a.jsonl", "{}")
    Path(path).chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        rows(path)


def test_home_is_expanded_for_rows_and_hash(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.jsonl", "{}")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert rows("~/a.jsonl") == [{}]
    assert sha256("~/a.jsonl") == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_large_cell_and_nul_bytes_are_read(write: Write) -> None:
    large = "x" * 1_000_000
    assert rows(write("a.csv", f"a,b\n{large},n\0l\n")) == [{"a": large, "b": "n\0l"}]


def test_a_hub_set_is_no_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client reads one, wherever it is, and has no commit for it."""
    monkeypatch.chdir(tmp_path)
    Path("user/set").mkdir(parents=True)
    Path("user/set/train.jsonl").write_text('{"prompt": "a"}\n')
    for name in ("user/set", str(tmp_path / "user/set"), "./user/set", "../x", "a/b/c", "~/x", ""):
        with pytest.raises(UserError, match=r"data\.source\.name: .*--data\.source\.path FILE"):
            list(read_hub(name, None, set()))


def test_a_link_to_nothing_is_said_to_be_one(tmp_path: Path) -> None:
    link = tmp_path / "rows.jsonl"
    link.symlink_to(tmp_path / "gone.jsonl")
    with pytest.raises(UserError, match=r"rows\.jsonl is a link to a file that is not there"):
        rows(str(link))
