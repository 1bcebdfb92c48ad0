"""Lines in, replies out: what a terminal and a pipe have in common."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from speakers import Scripted

from tuner.chat.history import History
from tuner.chat.settings import Settings
from tuner.chat.talk import Talk
from tuner.chat.terminal import HELP, Terminal


@pytest.fixture
def pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str, list[dict[str, Any]]]]:
    """Answers lines; returns output, remarks and the rows of the transcript."""

    def talk(text: str, replies: dict[str, Any], **more: Any) -> Any:
        speaker: Any = Scripted(replies, **more)
        history = History(tmp_path, "lora")
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        Terminal(Talk(speaker, Settings(max_new_tokens=4)), history).run()
        said = capsys.readouterr()
        assert history.lines() == [], "lines of a program are nobody's to find again"
        file = history.transcript
        rows = file.read_text(encoding="utf-8").split("\n")[:-1] if file and file.exists() else []
        return said.out, said.err, [json.loads(row) for row in rows]

    return talk


def test_each_line_is_answered_and_nothing_else_is_written(pipe: Any) -> None:
    out, err, rows = pipe("hi\n\n   \n/reset\nand\r\nlast", {"lora": lambda n: f"reply {n}"})
    assert out == "reply 1\nreply 2\nreply 3\n"
    assert err == "(forgotten)\n"
    assert [row["message"] for row in rows] == ["hi", "and", "last"]


def test_with_the_base_each_reply_has_its_name(pipe: Any) -> None:
    out, err, rows = pipe("hi\n", {"base": "a b", "lora": "c"})
    assert (out, err) == ("base: a b\nlora: c\n", "")
    assert [reply["name"] for reply in rows[0]["replies"]] == ["base", "lora"]


def test_commands_are_obeyed_and_mistakes_end_nothing(pipe: Any) -> None:
    lines = [
        "/params max_new_tokens 2", "one", "/parms", "/params top_p 7", " /params",
        "/system Be it.", "/system", "/system -", "/help me", "/quit", "never read",
    ]  # fmt: skip
    out, err, rows = pipe("\n".join(lines), {"lora": "one two three"})
    assert out == "one two\none two\n"
    assert [row["message"] for row in rows] == ["one", "/params"]
    for said in (
        "max_new_tokens=2",
        "lora: (cut at max_new_tokens 2)",
        "no command '/parms'. Did you mean '/params'?",
        "error: top_p: 7.0 is not allowed",
        "Be it.",
        "(none but",
        *HELP.splitlines(),
    ):
        assert " ".join(said.split()) in " ".join(err.split())


def test_what_leaves_the_conversation_is_said(pipe: Any) -> None:
    _, err, rows = pipe("a b\nc d\ne f\n" + "x " * 30, {"base": "r", "lora": "r s t"}, room=12)
    assert "the oldest turn of lora left the conversation" in err
    assert "of base" not in err
    assert "error: the message takes 30 tokens" in err
    assert [[reply["forgotten"] for reply in row["replies"]] for row in rows] == [
        [0, 0], [0, 0], [0, 1]
    ]  # fmt: skip


def test_hostile_lines_and_replies_write_their_escapes(pipe: Any) -> None:
    out, err, _ = pipe("/\x1b[2J\nhi\n", {"lora": "\x1b[2Jred \x07\x9b"})
    assert not {"\x1b", "\x07", "\x9b"} & set(out + err)
    assert "\\x1b[2Jred" in out


def test_an_empty_reply_is_told_and_not_remembered(pipe: Any) -> None:
    out, err, _ = pipe("hi\n", {"lora": " "})
    assert out == "\n"
    assert "an empty reply" in err
