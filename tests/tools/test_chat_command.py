"""`tuner chat` from the command line: through a pipe, and in a terminal with keys."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tuner.tools.chat import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def chat(
    pico_logs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    def call(*options: object, lines: bytes = b"", run: str = "lora") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
        own = [f"--logs={pico_logs}", f"--history={tmp_path / 'state'}"]
        code = main([run, *own, *map(str, options)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def transcript(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.glob("*.jsonl")
    return [json.loads(row) for row in file.read_text(encoding="utf-8").splitlines()]


def test_a_pipe_is_answered_line_by_line(chat: Any, tmp_path: Path) -> None:
    code, out, err = chat("--compare", "--max_new_tokens=9", lines="Grüße\nand \xff?\n".encode())
    assert (code, "Traceback" in err) == (0, False)
    rows = transcript(tmp_path / "state")
    assert [row["message"] for row in rows] == ["Grüße", "and ÿ?"]
    said = [(reply["name"], reply["text"]) for row in rows for reply in row["replies"]]
    assert [name for name, _ in said] == ["base", "lora"] * 2
    assert out == "".join(f"{name}: {text}\n" for name, text in said)


def test_the_same_questions_are_drawn_the_same_way(chat: Any, tmp_path: Path) -> None:
    drawn = ["--temperature=1.5", "--max_new_tokens=12"]
    first, second, third = (
        chat(*drawn, more, lines=b"hi\n/reset\nhi\n")[1]
        for more in ("--seed=1", "--seed=1", "--seed=2")
    )
    assert first == second != third
    assert len(set(first.splitlines())) > 1, "asked again, it is drawn again"


def test_bytes_that_are_no_text_end_nothing(chat: Any, tmp_path: Path) -> None:
    code, _, err = chat("--max_new_tokens=4", lines=b"\xff\xfe\x00 x\nhi")
    assert (code, "Traceback" in err) == (0, False)
    assert [row["message"] for row in transcript(tmp_path / "state")] == ["\ufffd\ufffd\0 x", "hi"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--temperature=-1"], "temperature: -1.0 is not allowed"),
        (["--top_p=0"], "top_p: 0.0"),
        (["--max_new_tokens=0"], "max_new_tokens: 0"),
        (["--dtype=float8"], "dtype"),
        (["--tempreature=1"], "tempreature"),
        (["--history=/proc/nothere"], "--history: cannot write"),
        (["--web", "--port=99999"], "--port"),
    ],
)
def test_mistakes(options: list[str], message: str, chat: Any) -> None:
    code, _, err = chat(*options)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_a_run_that_is_not_there_or_not_one(chat: Any, pico_logs: Path) -> None:
    assert "Did you mean 'lora'?" in chat(run="lroa")[2]
    assert chat(run="lora@7")[0] == 2
    assert chat(run=str(pico_logs))[0] == 2
    code, out, _ = chat("--history=null", run=str(pico_logs / "lora" / "version_0"))
    assert (code, out) == (0, "")


def test_the_page_is_served_to_this_machine_alone_until_ctrl_c(
    pico_logs: Path, tmp_path: Path
) -> None:
    options = [f"--logs={pico_logs}", f"--history={tmp_path}", "--compare", "--web", "--port=0"]
    with subprocess.Popen(
        [sys.executable, "-m", "tuner", "chat", "lora", "--no_browser", *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        url = process.stdout.readline().split()[2].rstrip(";")
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=20) as page:
            assert "Chat with lora" in page.read().decode()
        # An open page listens to this for as long as it is open.
        with urllib.request.urlopen(f"{url}gradio_api/heartbeat/x", timeout=20) as beats:
            assert beats.readline().startswith(b"data:")
            listening = Path("/proc/net/tcp").read_text() if sys.platform == "linux" else ""
            assert f"00000000:{int(url.rstrip('/').rpartition(':')[2]):04X}" not in listening
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "ERROR" not in err
    assert "Traceback" not in err


def test_a_page_without_gradio_is_one_message(chat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.tools.chat.find_spec", lambda name: None)
    code, _, err = chat("--web")
    assert (code, "Loading" in err) == (2, False)
    assert "pip install -e '.[web]'" in err


def test_others_need_a_password_that_is_made_anew(
    chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []

    def note(app: Any, taken: socket.socket) -> None:
        served.append(app)
        taken.close()

    monkeypatch.setattr("tuner.server.serve", note)
    words: list[str] = []
    for _ in range(2):
        code, out, err = chat("--web", "--host=0.0.0.0", "--port=0", "--no_browser")
        assert code == 0
        assert "not encrypted" in err
        words.append(out.splitlines()[1].split()[1])
        client = TestClient(served[-1], base_url="http://127.0.0.1")
        assert client.get("/").status_code == 401
        assert client.get("/", auth=("any", words[-1])).status_code == 200
    assert words[0] != words[1]


class Typed:
    """A chat in a terminal of its own, at whose keyboard the test sits."""

    def __init__(self, *command: str, home: Path, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        subprocess.run(["stty", "cols", str(columns), "rows", "24"], stdin=slave, check=True)
        environment = os.environ | {
            "TERM": "xterm", "HOME": str(home), "XDG_STATE_HOME": "", "INPUTRC": "/dev/null",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{os.environ.get('PYTHONPATH', '')}",
        }  # fmt: skip
        environment.pop("COLUMNS", None)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, *command],
            cwd=ROOT, env=environment, stdin=slave, stdout=slave, stderr=slave,
            # What is started in the background of a script ignores Ctrl-C, and so do its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def keys(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C, a moment after what was shown last, as a person would."""
        time.sleep(0.7)
        self.keys("\x03")

    def until(self, pattern: str, seconds: float = 180) -> str:
        """Read until something is shown; returns all that was, up to there, and forgets it."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < end, f"waited in vain for {pattern!r}: {self.seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode(errors="replace")
                except OSError:  # the other side is closed
                    assert re.search(pattern, self.seen), self.seen
        text, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return text

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[Callable[..., Typed]]:
    open_ones: list[Typed] = []

    def start(*command: str, **more: Any) -> Typed:
        open_ones.append(Typed(*command, home=tmp_path, **more))
        return open_ones[-1]

    yield start
    for one in open_ones:
        one.close()


def test_a_person_at_a_terminal(typed: Any, pico_logs: Path, tmp_path: Path) -> None:
    state = tmp_path / ".local" / "state" / "tuner"
    state.mkdir(parents=True)
    (state / "lines").write_text("of yesterday\n")
    chat = typed("-m", "tuner", "chat", "lora", f"--logs={pico_logs}", "--compare")
    chat.until("> ")
    chat.keys("/params max_new_tokens 5\n")
    chat.until("max_new_tokens=5(?s:.*)> ")
    chat.keys("\x1b[A\x1b[A\n")  # up, up: the line before this chat
    assert "of yesterday" in chat.until(r"base\b.*lora(?s:.*)> ")
    chat.keys("\x04")
    assert chat.process.wait(timeout=30) == 0
    (row,) = transcript(state)
    assert row["message"] == "of yesterday"
    assert [reply["new_tokens"] for reply in row["replies"]] == [5, 5]
    typed_lines = ["of yesterday", "/params max_new_tokens 5", "of yesterday"]
    assert (state / "lines").read_text().splitlines() == typed_lines


SLOW = """
import sys, time
from pathlib import Path
from speakers import Scripted
from tuner.chat.history import History
from tuner.chat.settings import Settings
from tuner.chat.talk import Talk
from tuner.chat.terminal import Terminal

class Slow(Scripted):
    def say(self, *args):
        for said in super().say(*args):
            time.sleep(0.05)
            yield said

speaker = Slow(dict.fromkeys(sys.argv[1].split(","), "a\x1b[2Jb " + "word " * 500))
Terminal(Talk(speaker, Settings(max_new_tokens=400)), History(Path("~/kept"), "x")).run()
"""


@pytest.mark.parametrize(
    ("names", "columns"), [("base,lora", 80), pytest.param("lora", 9, marks=pytest.mark.slow)]
)
def test_ctrl_c_stops_a_reply_and_not_the_chat(
    names: str, columns: int, typed: Any, tmp_path: Path
) -> None:
    chat = typed("-c", SLOW, names, columns=columns)
    shown = chat.until(r"> $")
    chat.interrupt()
    shown += chat.until(r"(?s:.*)> $")
    chat.keys("half a li")
    chat.until("i$")
    chat.interrupt()  # gives up the line, not the chat
    shown += chat.until(r"(?s:.*)> $")
    chat.keys("hello\n")
    for _ in names.split(","):
        shown += chat.until(r"wo")
        chat.interrupt()
    shown += chat.until(r"\(stop(?s:.*)> $")
    assert "b[2Jb" in shown
    assert "\x1b[2J" not in shown, "no reply wipes the screen"
    chat.keys("\x04")
    assert chat.process.wait(timeout=30) == 0
    (row,) = transcript(tmp_path / "kept")
    for reply in row["replies"]:
        assert reply["stop_reason"] == "stopped"
        assert 0 < reply["new_tokens"] < 400
    assert len(row["replies"]) == len(names.split(","))
