"""Nothing tells anybody anything: no tool reaches for another machine unless a model is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from comparisons import write_comparison
from several import COMMANDS

from tests.conftest import ROOT

# A page is asked once instead of served, and `tuner serve` ends where its engine begins.
BRIEF = """
import os, tuner.server
from starlette.testclient import TestClient
def ask(app, taken):
    assert TestClient(app, base_url="http://127.0.0.1").get("/").status_code == 200
tuner.server.serve = ask
os.execve = os.chdir = lambda *_: None
"""
# The runs of a sweep are those of `fit`, which is watched itself.
STUB = f"""
import sys, tuner.sweep.fit
tuner.sweep.fit.PROGRAM = (sys.executable, "-S", {str(ROOT / "tests/sweep/stub_fit.py")!r})
"""
# Opens the chat's page in the process of the tools, as its server would.
PAGE = """
from starlette.testclient import TestClient
from tuner.chat.history import History
from tuner.chat.page import Visit, build_app
from tuner.chat.settings import Settings
from tuner.chat.talk import Talk
from tests.speakers import Scripted
begin = lambda: Visit(Talk(Scripted({"lora": "hello"}), Settings()), History(None, "lora"))
client = TestClient(build_app(begin, "127.0.0.1", None), base_url="http://127.0.0.1")
assert client.get("/").status_code == 200
import optuna, tensorboard, transformers.cli.serve
from tuner.sweep.storage import open_storage
open_storage("sqlite://")
"""


def called(code: str, commands: list[list[str]], folder: Path, *before: str) -> list[str]:
    """Runs commands as a user does who has set nothing; returns what they asked other machines."""
    notes = folder / "notes"
    notes.write_text("")
    ours = ("HF_", "GRADIO_", "DO_NOT_TRACK", "TUNER_", "TRANSFORMERS_", "DISABLE_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    environment |= {"HF_HOME": str(folder / "home"), "TUNER_TESTS_NOTES": str(notes)}
    done = subprocess.run(
        [*before, sys.executable, "-c", code, json.dumps(commands)],
        cwd=ROOT, env=environment, input="hello\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("code 0") == len(commands), done.stderr[-3000:]
    return notes.read_text().splitlines()


def test_a_process_of_the_tests_stays_on_this_machine(tmp_path: Path) -> None:
    away = "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=5)"
    done = subprocess.run([sys.executable, "-c", away], capture_output=True, text=True, check=False)
    assert "the tests are offline" in done.stderr
    tried = away.replace("\n", "\ntry:\n ") + "\nexcept OSError: pass"
    asked = called(tried, [], tmp_path)
    assert asked == ["socket.getaddrinfo 192.0.2.1", "socket.connect 192.0.2.1"]
    for send in ("sendmsg([b'x'], [], 0, to)", "sendto(b'x', to)"):
        datagram = "import socket\nto = ('192.0.2.1', 9)\n"
        datagram += f"socket.socket(socket.AF_INET, socket.SOCK_DGRAM).{send}"
        run = [sys.executable, "-c", datagram]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert "the tests are offline" in done.stderr


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_the_tools_ask_nobody(
    every: bool,
    command: Callable[..., list[str]],
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    fit = ["tuner.cli", *command("fit", "--model.base=pico", "--trainer.max_steps=1")]
    logs = f"--logs={tmp_path / 'logs'}"
    file = tmp_path / "ranks.yaml"
    recipe = ROOT / "configs/debug/fast.yaml"
    file.write_text(f"config: {recipe}\nover: {{model.head.r: [2]}}\nseeds: [1]\ncompare: 0\n")
    of_sweep = [word for word in fit[2:] if "default_root_dir" not in word]
    rated = write_comparison(tmp_path / "rated")
    light = [
        ["tuner.tools.sweep", str(file), logs, *of_sweep],
        ["tuner.tools.rate", str(rated), "--no_browser", "--port=0"],
        ["tuner.tools.serve", "lora", logs, "--port=0", "--engine=transformers"],
    ]
    tools = [
        ["tuner.tools.plan", *fit[2:]],
        ["tuner.tools.preview", *fit[2:], "--rows=1"],
        ["tuner.tools.compare", "lora", logs, "--limit=2", "--max_new_tokens=3", "--latency=1"],
        ["tuner.tools.chat", "lora", logs, "--max_new_tokens=3", "--history=null"],
        ["tuner.tools.export", "lora", logs, f"--to={tmp_path / 'export'}"],
        ["tuner.tools.runs", logs],
    ]
    commands = [[*fit, "--name=lora"], *light, *(tools if every else [])]
    code = BRIEF + (COMMANDS + PAGE if every else STUB + COMMANDS)
    asked = called(code, commands, tmp_path)
    connected: list[str] = []
    if every:
        if shutil.which("strace") is None:
            pytest.skip("no strace: what compiled code asks was not seen")
        trace = tmp_path / "trace"
        shutil.rmtree(tmp_path / "logs")
        shutil.rmtree(tmp_path / "export")
        watch = ("strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(trace))
        asked += called(code, commands, tmp_path, *watch)
        addresses = re.findall(r'inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)', trace.read_text())
        connected = [one for one in addresses if not one.startswith("127.") and one != "::1"]
        figures(
            "security", "tools with nothing set, by Python's own account and by the system's",
            2 * len(commands), asked=len(asked), connected=len(connected),
        )  # fmt: skip
    assert asked == []
    assert connected == []
