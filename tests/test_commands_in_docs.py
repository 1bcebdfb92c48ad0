"""Every command of README and documentation is one that its program takes."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tensorboard.plugins.core.core_plugin import CorePluginLoader
from tensorboard.program import TensorBoard

from tuner.tools.options import FitOptions
from tuner.tools.plan import Plan
from tuner.tools.preview import Preview
from tuner.tools.sweep import read

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FITS = {"fit", "validate", "test", "predict"}
NAMED = re.compile(r"tuner (\w+|--help)")
OURS = ("make ", "python ", "tuner ", "pip ", "torchrun ", "sbatch ", "tensorboard ")


def commands(page: Path) -> list[str]:
    """Indented lines and words in backticks that call a program, up to a comment or redirection."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```|<!-- \w+:begin -->.*?<!-- \w+:end -->", "", text, flags=re.M | re.S)
    text = text.replace("\\\n", " ")
    lines = [line.strip() for line in re.findall(r"^(?: {4,})(\S.*)$", text, re.M)]
    quoted = [found for found in re.findall(r"`([^`\n]+)`", text) if " " in found]
    written = [re.sub(r'^echo "[^"]*" \| |\s+[#>|].*', "", line) for line in [*lines, *quoted]]
    # A program's name and a command alone, such as `tuner rate`, is a name.
    return [line for line in written if line.startswith(OURS) and not NAMED.fullmatch(line)]


def options_of(program: str, words: Sequence[str]) -> None:
    """Read a command line as its program does, up to what it would do."""
    name, rest = words[0], list(words[1:])
    if program == "tuner" and name == "preview":
        Preview(["fit", *rest])
    elif program == "tuner" and name == "plan":
        Plan(["fit", *rest])
    elif program == "tuner" and name == "sweep":
        _, definition = read(rest)
        for setting in definition.samples():
            FitOptions(definition.arguments(setting))
    elif words == ["--help"]:
        assert program == "tuner"
    elif name in FITS:
        assert name == "fit" or "--config" in rest
        FitOptions(["fit", *rest])
    else:
        tool: Any = import_module(f"tuner.tools.{'compare' if name == 'eval' else name}")
        tool._parser().parse_args(rest)


THEIRS = ("convert_hf_to_gguf.py",)  # of llama.cpp, in a clone of it


def check(words: list[str]) -> None:
    program, *rest = words
    if program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.M)
    elif program == "pip":
        extras = re.findall(r"\[(\w+)\]", " ".join(rest))
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert set(extras) <= set(project["optional-dependencies"])
        assert not any(word.startswith(project["name"]) for word in rest)  # is on no index
    elif program == "tuner":
        options_of("tuner", rest)
    elif program == "tensorboard":
        TensorBoard([CorePluginLoader()]).configure(words)
    elif program in ("torchrun", "sbatch"):
        start = next(n for n, word in enumerate(rest) if word in ("train.py", "configs/slurm.sh"))
        after = rest[start + 1 :]
        options_of("python", after if rest[start] == "train.py" else ["fit", *after])
    elif rest[0] == "train.py":
        options_of("python", rest[1:])
    elif rest[0] == "eval.py":
        options_of("python", ["eval", *rest[1:]])
    elif rest[0] != "-m" and rest[0] not in THEIRS:
        text = (ROOT / rest[0]).read_text(encoding="utf-8")
        for option in (word for word in rest[1:] if word.startswith("--")):
            assert f'"{option}"' in text, option


FOUND = sorted({(page.name, line) for page in PAGES for line in commands(page)})


@pytest.mark.parametrize(("page", "line"), FOUND, ids=lambda value: value)
def test_a_command_is_one(page: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)
    monkeypatch.setattr(sys, "argv", words)
    check(words)


def test_commands_are_found() -> None:
    assert len(FOUND) > 30
