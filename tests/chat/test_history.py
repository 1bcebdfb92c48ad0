"""Lines and transcripts: whole, private, and only where they were asked for."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from speakers import Scripted

from tuner.chat.history import MOST_LINES, History, default_folder
from tuner.chat.settings import Settings
from tuner.chat.talk import Talk
from tuner.errors import UserError


def test_lines_come_back_in_order_and_one_each(tmp_path: Path) -> None:
    first, second = (History(tmp_path / "state", name) for name in ("lora", "other"))
    first.typed("a\nb\u2028c")
    second.typed("größer \ud800")
    assert History(tmp_path / "state", "lora").lines() == ["a b c", "größer \\ud800"]
    for number in range(MOST_LINES):
        first.typed(str(number))
    assert first.lines() == [str(number) for number in range(MOST_LINES)]


def test_a_turn_is_a_row_with_all_that_shaped_it(tmp_path: Path) -> None:
    history = History(tmp_path, "logs/lora/version_2")
    speaker: Any = Scripted({"base": "one", "lora": "two\x1b[2J \u2028"})
    talk = Talk(speaker, Settings(0.5, 0.9, 8, 3), "Be brief.")
    assert history.transcript is not None
    assert not history.transcript.exists(), "nothing was said yet"
    turn = talk.ask("hi")
    for name in talk.names:
        list(talk.reply(turn, name))
    history.answered(turn)
    history.answered(turn)
    first, _ = history.transcript.read_text(encoding="utf-8").split("\n")[:-1]
    row = json.loads(first)
    assert {"time", "turn", "system", "message", "temperature", "top_p", "seed"} <= row.keys()
    assert (row["message"], row["system"], row["max_new_tokens"]) == ("hi", "Be brief.", 8)
    said = {reply["name"]: reply for reply in row["replies"]}
    assert said["lora"]["text"] == "two\x1b[2J"
    assert said["base"].keys() == {
        "name", "text", "stop_reason", "new_tokens", "seconds", "forgotten"
    }  # fmt: skip
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, "for the user's eyes alone"


def test_nothing_is_kept_where_nothing_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    history = History(None, "lora")
    history.typed("a")
    assert history.lines() == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--history: cannot write to .*null to keep nothing"):
        History(tmp_path / "file" / "x", "lora")


def test_the_folder_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/tuner")
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", unusable)
        assert default_folder() == Path("~/.local/state/tuner")
