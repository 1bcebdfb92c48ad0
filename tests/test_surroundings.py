"""What the shell has left is refused in one message, or does no harm."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.surroundings import STARTED_BY

ROOT = Path(__file__).parent.parent
TUNER = f"{shlex.quote(sys.executable)} -m tuner"


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a command line of bash does."""
    # Other tests of this process may have been a run, which leaves word for those it starts.
    outside = {k: v for k, v in os.environ.items() if k not in (*STARTED_BY, "LOCAL_RANK")}
    places = os.pathsep.join([os.environ["PYTHONPATH"], str(ROOT)])
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=outside | {"PYTHONPATH": places} | environment,
        capture_output=True,
        encoding="latin-1",
        check=False,
    )


@pytest.mark.parametrize("name", ["LOCAL_RANK", "RANK", "TUNER_PARENT"])
def test_a_variable_that_is_no_number_is_refused(name: str, tmp_path: Path) -> None:
    done = shell(f"{TUNER} runs", tmp_path, **{name: "abc"})
    assert done.returncode == 2
    assert (
        done.stderr == f"error: {name}: the environment holds 'abc', which is no number; unset it\n"
    )


def test_a_rank_that_another_program_has_left_is_refused(tmp_path: Path) -> None:
    done = shell(f"{TUNER} fit", tmp_path, LOCAL_RANK="3")
    assert done.returncode == 2
    assert done.stderr.startswith("error: LOCAL_RANK: the environment holds 3, but nothing has")


def test_a_folder_that_is_gone_is_refused(tmp_path: Path) -> None:
    done = shell(f"mkdir gone; cd gone; rmdir ../gone; {TUNER} runs", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the current folder cannot be read: No such file")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams_are_as_if_nobody_reads_them(closed: str, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for line in ("--help", "runs"):
        done = shell(f"{TUNER} {line} {closed}", tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("backend", ["foo", "module://matplotlib_inline.backend_inline"])
def test_the_backend_of_a_notebook_is_left_out(backend: str, tmp_path: Path) -> None:
    (tmp_path / "draws.py").write_text(
        "import matplotlib\n"
        "def main(_): return 3 if matplotlib.get_backend().lower() == 'agg' else 4"
    )
    code = "import sys; from tuner.process import start; sys.exit(start('draws'))"
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    assert shell(line, tmp_path, MPLBACKEND=backend).returncode == 3


@pytest.mark.parametrize(
    "terminal",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["latin-1", "POSIX"],
)
def test_what_a_terminal_cannot_show_is_replaced(terminal: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "says.py").write_text(
        "import sys\n"
        "def main(_): print('a \\u2501 b \\udc80'); print('\\u2501', file=sys.stderr); return 3"
    )
    code = "import sys; from tuner.process import start; sys.exit(start('says'))"
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    done = shell(line, tmp_path, **terminal)
    assert (done.returncode, done.stdout, done.stderr) == (3, "a ? b ?\n", "\\u2501\n")
