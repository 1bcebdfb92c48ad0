"""The map of all commands, and that each of them is there."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

from tuner.__main__ import COMMANDS, main


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]], ids=str)
def test_the_map_has_a_line_for_each_command(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tuner", *argv])
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    for name, _, module, does in COMMANDS:
        (line,) = [one for one in lines if one.split()[:1] == [name]]
        assert line.endswith(does)
        assert find_spec(module), module
    assert len({name for name, *_ in COMMANDS}) == len(COMMANDS)


@pytest.mark.parametrize(("typed", "meant"), [("chatt", "chat"), ("run", "runs")])
def test_a_slip_is_answered_with_the_nearest(
    typed: str, meant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tuner", typed])
    assert main() == 2
    assert f"no command '{typed}'. Did you mean '{meant}'?" in capsys.readouterr().err
