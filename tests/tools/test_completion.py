"""The script that completes `tuner`, in a real shell."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tuner.__main__ import COMMANDS
from tuner.tools.completion import main


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash."""
    file = tmp_path_factory.mktemp("completion") / "tuner"
    with file.open("w") as stream, redirect_stdout(stream):
        assert main(["bash"]) == 0
    return file


def complete(script: Path, *words: str) -> list[str]:
    """What bash offers for the last word of a line."""
    line = " ".join(words)
    code = f"""
        source {script}
        COMP_WORDS=({line if words[-1] else line + " ''"}); COMP_CWORD={len(words) - 1}
        COMP_LINE='{line}'; COMP_POINT={len(line)}
        $(complete -p tuner | sed 's/.*-F \\([^ ]*\\).*/\\1/') tuner "{words[-1]}" ""
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_commands_options_and_classes_are_completed(script: Path) -> None:
    assert set(complete(script, "tuner", "")) >= {name for name, *_ in COMMANDS}
    assert set(complete(script, "tuner", "pre")) == {"predict", "preview"}
    assert "--compare" in complete(script, "tuner", "chat", "--co")
    assert "--model.base" in complete(script, "tuner", "fit", "--model.b")
    assert "--model.head.r" in complete(script, "tuner", "fit", "--model.head.r")
    assert "tuner.heads.lora.LoRA" in complete(script, "tuner", "fit", "--model.head", "tuner.h")
    assert complete(script, "tuner", "chat", "lora", "--dtype", "bf") == ["bfloat16"]
    assert "--split" in complete(script, "tuner", "preview", "--sp")


def test_every_shell_gets_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef tuner")
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n"], input=script, text=True, check=True)
    assert main(["fish"]) == 2
    assert "fish" in capsys.readouterr().err
