"""Replies on terminals of any width; nothing in them steers the terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.cells import cell_len
from rich.console import Console

from tuner.chat.screen import Columns, Stacked, screen

HOSTILE = "a\x1b[2J\x1b]0;title\x07\x9b31m\r\x08 \u202etxt\u2066 [bold]no markup[/bold] :smile: end"
STEERING = {"\x1b", "\x07", "\x9b", "\r", "\x08", "\u202e", "\u2066"}


def terminal(width: int, height: int = 24) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=height, highlight=False,
        color_system=None, legacy_windows=False, _environ={"TERM": "xterm"},
    )  # fmt: skip


def left_on(console: Console) -> str:
    """What stays on the screen: all behind the last time that the live part was wiped."""
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().rpartition("\x1b[2K")[2]


def show(view: Stacked | Columns, replies: dict[str, Sequence[str]], remark: str = "") -> None:
    with view:
        for name, texts in replies.items():
            view.begin(name)
            for text in texts:
                view.show(text)
            view.end(remark)


def test_several_replies_stand_beside_each_other_where_there_is_room() -> None:
    assert isinstance(screen(["lora"], terminal(200)), Stacked)
    assert isinstance(screen(["base", "lora"], terminal(60)), Columns)
    assert isinstance(screen(["base", "lora"], terminal(59)), Stacked)
    assert isinstance(screen(["base", "lora"], Console(file=io.StringIO(), width=200)), Stacked)
    dumb = Console(file=io.StringIO(), force_terminal=True, width=99, _environ={"TERM": "dumb"})
    assert isinstance(screen(["base", "lora"], dumb), Stacked)


def test_a_stacked_reply_is_written_once_as_it_grows(capsys: pytest.CaptureFixture[str]) -> None:
    grows = ["one", "one two", "one", "one two", "one two three"]  # a decoder may take back
    show(Stacked(["lora"]), {"lora": grows}, "(stopped)")
    assert capsys.readouterr().out == "one two three (stopped)\n"
    show(Stacked(["base", "lora"]), {"base": ["a"], "lora": []}, "")
    assert capsys.readouterr().out == "base: a\nlora: \n"


def test_nothing_hostile_reaches_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show(Stacked([HOSTILE, "b"]), {HOSTILE: [HOSTILE[:9], HOSTILE]})
    said = capsys.readouterr().out
    assert not STEERING & set(said)
    assert "\\x1b[2J" in said
    console = terminal(100)
    show(Columns(["base", HOSTILE], console), {"base": [HOSTILE], HOSTILE: [HOSTILE]})
    left = left_on(console)
    assert "[bold]no markup[/bold] :smile:" in " ".join(left.split())
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert not (STEERING - {"\x1b", "\r"}) & set(written)
    assert not {"\x1b[2J", "\x1b]0"} & {written[i : i + 4] for i in range(len(written))}


@pytest.mark.parametrize("width", [60, 97, 300])
def test_columns_show_the_end_while_writing_and_all_of_it_at_last(width: int) -> None:
    lines = [f"line {number} 你好" for number in range(50)]
    console = terminal(width, height=12)
    view = Columns(["base", "lora"], console)
    with view:
        for name in ("base", "lora"):
            view.begin(name)
            for count in range(1, len(lines) + 1):
                view.show("\n".join(lines[:count]))
            live = view._live.get_renderable()  # pyright: ignore[reportPrivateUsage]
            drawn = console.render_lines(live)
            assert len(drawn) <= 12
            assert any("line 49" in "".join(s.text for s in line) for line in drawn)
            view.end("(cut)")
    left = left_on(console)
    assert left.count("line ") == 100
    assert left.count("(cut)") == 2
    assert max(map(cell_len, left.splitlines())) <= width
