"""Files as users have them: each is refused with one message, or read with an account."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuner.data.curation import Curation
from tuner.data.datamodule import ConversationData
from tuner.data.sources.conversations import Conversations
from tuner.errors import UserError

Write = Callable[..., str]
PAIR = {"prompt": "question?", "completion": "answer"}
GOOD = [{"prompt": f"question {n} of many?", "completion": f"answer {n}"} for n in range(40)]
LINES = "".join(json.dumps(row) + "\n" for row in GOOD)
TABLE = "prompt,completion\n" + "".join(f"question {n} of many?,answer {n}\n" for n in range(40))
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
BOM = b"\xef\xbb\xbf"


def lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


# name of the file, its content, what the one message must say (regular expression)
REFUSED: list[tuple[str, bytes | str, str]] = [
    ("empty.jsonl", "", r"empty\.jsonl: there are no rows in it"),
    ("blank.jsonl", "\n \n\t\n", "there are no rows in it"),
    ("empty.json", "", "there are no rows in it"),
    ("list.json", "[]", "there are no rows in it"),
    ("empty.csv", "", "there are no rows in it"),
    ("header.csv", "prompt,completion\n", "there are no rows in it"),
    ("bom.jsonl", BOM, "there are no rows in it"),
    ("utf16.jsonl", LINES.encode("utf-16"), r"utf16\.jsonl:1: not UTF-8.*data\.source\.encoding"),
    ("utf16le.jsonl", LINES.encode("utf-16-le"), "0 rows|not_json|cannot be used"),
    ("utf32.json", json.dumps(GOOD).encode("utf-32"), r"utf32\.json:1: not UTF-8"),
    ("latin.jsonl", LINES.encode() + '{"prompt": "é"}'.encode("cp1252"), r":41: not UTF-8.*iconv"),
    ("latin.csv", TABLE.encode() + "é,è\n".encode("cp1252"), r"latin\.csv:42: not UTF-8"),
    ("random.jsonl", bytes(range(256)), r"random\.jsonl:\d: not UTF-8"),
    ("zip.jsonl", b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xb3\xff", "not UTF-8"),
    ("image.png", b"\x89PNG\r\n", r"unknown ending '\.png'.*Allowed: \.csv, \.json"),
    ("data.txt", LINES, r"unknown ending '\.txt'"),
    ("data.xlsx", b"PK", r"unknown ending '\.xlsx'"),
    ("data.jsnl", LINES, r"unknown ending '\.jsnl'\. Did you mean '\.jsonl'"),
    ("noending", LINES, "unknown ending ''"),
    ("data.parquet", LINES, r"data\.parquet: not a valid Parquet file"),
    ("cut.parquet", b"PAR1abc", "not a valid Parquet file"),
    ("plain.jsonl.gz", LINES, r"plain\.jsonl\.gz: a broken gzip file"),
    ("cut.jsonl.gz", gzip.compress(LINES.encode())[:-20], "a broken gzip file"),
    ("table.parquet.gz", b"", "Parquet is not read out of .gz"),
    ("list.jsonl", json.dumps(GOOD), r"list\.jsonl:1: a JSON list.*name the file \.json"),
    ("pretty.jsonl", json.dumps(GOOD, indent=1), r"pretty\.jsonl:1: a JSON list"),
    ("lines.json", LINES, r"lines\.json: not valid JSON.*Name it \.jsonl"),
    ("cut.json", json.dumps(GOOD)[:-5], r"cut\.json: not valid JSON"),
    ("object.json", json.dumps({"rows": GOOD}), "expected a list of objects, found dict"),
    ("text.json", '"hello"', "expected a list of objects, found str"),
    ("number.json", "7", "expected a list of objects, found int"),
    ("deep.json", "[" * 50_000, "not valid JSON"),
    ("words.jsonl", "hello\nworld\n", r"2 of 2 rows cannot be used \(not_json: 2\)"),
    ("numbers.jsonl", "1\n2\n3\n", r"not_an_object: 3"),
    ("nulls.jsonl", "null\nnull\n", r"not_an_object: 2"),
    ("keys.jsonl", lines({"a": 1}, {"b": 2}), r"unknown_shape\(a\).*Rows may have the keys: mess"),
    ("keys.csv", "question,answer\na,b\n", r"unknown_shape\(answer,ques.*source\.columns"),
    ("half.jsonl", lines({"prompt": "a"}, {"prompt": "b"}), r"unknown_shape\(prompt\): 2"),
    ("mute.jsonl", lines(PAIR | {"completion": ""}), r"1 of 1 rows .*no_reply.*mute\.jsonl:1"),
    ("blank_reply.jsonl", lines(PAIR | {"completion": " \n"}), "no_reply"),
    ("null_reply.jsonl", lines(PAIR | {"completion": None}), "no_reply"),
    ("no_prompt.jsonl", lines(PAIR | {"prompt": ""}), "empty_user_turn"),
    ("list_reply.jsonl", lines(PAIR | {"completion": {"text": "a"}}), r"not_text\(completion\)"),
    ("true_reply.jsonl", lines(PAIR | {"completion": True}), r"not_text\(completion\)"),
    ("nan.jsonl", '{"prompt": "a", "completion": NaN}\n', "no_reply"),
    ("roles.jsonl", lines({"messages": [{"role": "boss", "content": "a"}]}), r"role\(boss\)"),
    ("first.jsonl", lines({"messages": TURNS[::-1]}), "no_prompt"),
    ("twice.jsonl", lines({"messages": [TURNS[0], *TURNS]}), "turns_do_not_alternate"),
    ("silent.jsonl", lines({"messages": TURNS[:1]}), "no_reply"),
    ("late.jsonl", lines({"messages": [*TURNS, {"role": "system", "content": "x"}]}), "not_first"),
    ("none.jsonl", lines({"messages": []}), "no_prompt"),
    ("flat.jsonl", lines({"messages": "Hi"}), "messages_not_a_list"),
    ("strings.jsonl", lines({"messages": ["Hi", "Hello"]}), "message_without_role_and_content"),
    ("rolesless.jsonl", lines({"messages": [{"content": "a"}]}), "message_without_role"),
    ("parts.jsonl", lines({"messages": [{"role": "user", "content": [1]}]}), "without_role"),
    ("plain.jsonl", lines({"text": "just text"}), "text_without_role_markers"),
    ("both.jsonl", lines({"instruction": "a", "input": "b", "context": "c", "output": "d"}),
     "both_input_and_context"),
    ("doubled.csv", "prompt,prompt\na,b\n", r"doubled\.csv:1: column named twice: 'prompt'"),
    ("quote.csv", 'prompt,completion\na,"b\n', r"quote\.csv:2: not valid CSV"),
    ("cells.csv", "prompt,completion\na\nb,c,d\n", "wrong_number_of_cells: 2"),
    ("semicolon.csv", "prompt;completion\na;b\n", r"unknown_shape\(prompt;completion\)"),
    ("surrogate.jsonl", '{"prompt": "\\ud800", "completion": "a"}\n', "lone_surrogate"),
    ("control.jsonl", lines(PAIR | {"prompt": "</s>"}), "control_token_in_text: 1"),
    ("long.jsonl", lines(PAIR | {"prompt": "word " * 5000}), r"data\.max_length: 512 tokens leave"),
    ("turns.jsonl", lines({"messages": TURNS * 5000}), "longer_than_max_length: 1"),
    ("one.jsonl", lines(PAIR), r"1 rows in 1 group\(s\) cannot be split into 3 parts"),
    ("same.jsonl", lines(*[PAIR] * 50), r"1 rows in 1 group\(s\) cannot be split"),
    ("group.jsonl", lines(*(row | {"group": "g"} for row in GOOD)), r"in 1 group\(s\) cannot"),
]  # fmt: skip

# name of the file, its content, rows kept, rows dropped by reason
READ: list[tuple[str, bytes | str, int, dict[str, int]]] = [
    ("bom.jsonl", BOM + LINES.encode(), 40, {}),
    ("bom.csv", BOM + TABLE.encode(), 40, {}),
    ("crlf.jsonl", LINES.replace("\n", "\r\n"), 40, {}),
    ("crlf.csv", TABLE.replace("\n", "\r\n"), 40, {}),
    ("gaps.jsonl", LINES.replace("\n", "\n\n"), 40, {}),
    ("noend.jsonl", LINES.rstrip("\n"), 40, {}),
    ("packed.jsonl.gz", gzip.compress(LINES.encode()), 40, {}),
    ("packed.csv.gz", gzip.compress(TABLE.encode()), 40, {}),
    ("upper.JSONL", LINES, 40, {}),
    ("list.json", json.dumps(GOOD), 40, {}),
    ("cut.jsonl", LINES + '{"prompt": "a", "comp', 40, {"not_json": 1}),
    ("twice.jsonl", LINES + LINES, 40, {"repeated": 40}),
    ("ids.jsonl", lines(*(row | {"id": 7} for row in GOOD)), 40, {}),
    ("nul.jsonl", LINES + lines({"prompt": "a\x00b", "completion": "c\x00"}), 41, {}),
    ("number.jsonl", LINES + lines({"prompt": 7, "completion": 3.5}), 41, {}),
    ("quoted.csv", TABLE + '"a\nb","c ""d"", e"\n', 41, {}),
    ("large.csv", TABLE + f"{'x' * 2_000_000},y\n", 40, {"longer_than_max_length": 1}),
    ("mixed.jsonl", LINES + lines({"messages": TURNS}, {"instruction": "a", "output": "b"}),
     42, {}),
    ("sharegpt.jsonl", LINES + lines({"conversations": [{"from": "human", "value": "a"},
     {"from": "gpt", "value": "b"}]}), 41, {}),
    ("softage.jsonl", LINES + lines({"turns": [{"user": "a", "assistant": "b"}] * 2}), 41, {}),
    ("single.jsonl", LINES + lines(GOOD[0] | {"category": "rare"}), 40, {"repeated": 1}),
    ("emoji.jsonl", LINES + lines({"prompt": "\U0001f600", "completion": "\U0001f600"}), 41, {}),
]  # fmt: skip


def test_the_corpus_is_large_enough() -> None:
    assert len(REFUSED) >= 60
    assert len({name for name, *_ in REFUSED}) == len(REFUSED)


@pytest.mark.parametrize("case", REFUSED, ids=[name for name, *_ in REFUSED])
def test_is_refused_with_one_message(case: tuple[str, Any, str], write: Write, pico: Any) -> None:
    name, content, expected = case
    path = write(name, content)
    with pytest.raises(UserError) as refusal:
        ConversationData(Conversations(path)).prepare(pico)
    message = str(refusal.value)
    assert re.search(expected, message, re.DOTALL), message
    assert len(message) < 1500


@pytest.mark.parametrize("case", READ, ids=[name for name, *_ in READ])
def test_is_read_with_an_account(
    case: tuple[str, Any, int, dict[str, int]], write: Write, pico: Any
) -> None:
    name, content, kept, dropped = case
    found = ConversationData(Conversations(write(name, content))).prepare(pico)
    assert found.account["rows_out"] == kept
    assert found.dropped == dropped


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "latin-1", "utf-8"])
def test_other_encodings_when_named(encoding: str, write: Write, pico: Any) -> None:
    text = LINES + lines({"prompt": "caf\u00e9?", "completion": "na\u00efve"}).encode().decode(
        "unicode_escape"
    )
    path = write("a.jsonl", text.encode(encoding))
    found = ConversationData(Conversations(path, encoding=encoding)).prepare(pico)
    assert any("caf\u00e9" in e.prompt[0].content for s in found.splits.values() for e in s)


def test_an_encoding_that_is_none(write: Write) -> None:
    source = Conversations(write("a.jsonl", LINES), encoding="utf8x")
    with pytest.raises(UserError, match="no encoding 'utf8x'"):
        list(source.items())


def test_own_column_names(write: Write, pico: Any) -> None:
    path = write("a.csv", TABLE.replace("prompt,completion", "Question,Answer"))
    columns = {"prompt": "Question", "completion": "Answer"}
    found = ConversationData(Conversations(path, columns=columns)).prepare(pico)
    assert found.account["rows_out"] == 40
    with pytest.raises(UserError, match=r"columns: no row has a column 'Answr'.*'Answer'"):
        list(Conversations(path, columns=columns | {"completion": "Answr"}).items())
    with pytest.raises(UserError, match=r"unknown key 'promt'\. Did you mean 'prompt'"):
        Conversations(path, columns={"promt": "Question"})


def test_parquet_gives_the_rows_of_the_same_table(tmp_path: Path, pico: Any) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [*GOOD, {"prompt": "no reply", "completion": None}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = ConversationData(Conversations(str(tmp_path / "a.parquet"))).prepare(pico)
    assert found.account["rows_out"] == 40
    assert found.account["rejected"] == [f"{tmp_path}/a.parquet[40]: no_reply"]


def test_paths_outside_the_allowed_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = tmp_path / "in" / "a.jsonl", tmp_path / "out.jsonl"
    inside.parent.mkdir()
    for file in (inside, outside):
        file.write_text(LINES)
    (tmp_path / "in" / "link.jsonl").symlink_to(outside)
    monkeypatch.setenv("TUNER_DATA_ROOTS", f"{tmp_path / 'none'}:{tmp_path / 'in'}")
    assert Conversations(str(inside)).rows().seen == 40
    for path in (
        outside,
        tmp_path / "in/../out.jsonl",
        tmp_path / "in/link.jsonl",
        "missing.jsonl",
    ):
        with pytest.raises(UserError, match=r"path: .* is outside the folders .*TUNER_DATA_ROOTS"):
            Conversations(str(path)).rows()


@pytest.mark.parametrize("encoding", ["rot13", "hex", "base64", "undefined", "zip", "none"])
def test_codecs_that_are_no_encoding(encoding: str, write: Write) -> None:
    with pytest.raises(UserError, match=rf"encoding: there is no encoding '{encoding}'"):
        Conversations(write("a.jsonl", LINES), encoding=encoding).rows()


def test_a_column_twice_in_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["prompt", "completion", "prompt"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: column named twice: 'prompt'"):
        Conversations(str(tmp_path / "a.parquet")).rows()


def test_a_column_of_the_name_that_redaction_uses(write: Write, pico: Any) -> None:
    odd = [True, 5, "yes", None] * 10
    rows = [{**row, "redacted": value} for row, value in zip(GOOD, odd, strict=True)]
    rows[0]["prompt"] = "My mail is jo@example.org"
    data = ConversationData(Conversations(write("a.jsonl", rows)), curation=Curation(redact=True))
    steps = {step["step"]: step for step in data.prepare(pico).account["steps"]}
    assert steps["redaction"]["changed"] == 1


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match="no ordinary file"):
        Conversations(str(tmp_path / "a.jsonl")).rows()
