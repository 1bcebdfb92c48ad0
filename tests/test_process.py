"""Exit codes, and what a person sees."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException
from pyarrow.lib import ArrowMemoryError

from tuner.errors import UserError, nearest
from tuner.process import run, start

ROOT = Path(__file__).parent.parent


def raising(error: BaseException) -> int:
    def command() -> None:
        raise error

    return run(command)


def test_done_is_0() -> None:
    assert run(lambda: None) == 0


def test_what_the_user_can_mend_is_2_and_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert raising(UserError("data.path: no such file")) == 2
    assert capsys.readouterr().err == "error: data.path: no such file\n"
    assert raising(UserError("no such tensor: \x1b]0;title\x07 \u202e")) == 2
    assert capsys.readouterr().err == "error: no such tensor: \\x1b]0;title\\x07 \\u202e\n"
    monkeypatch.setenv("TUNER_DEBUG", "1")
    assert raising(UserError("data.path: no such file")) == 2
    assert "Traceback" in capsys.readouterr().err


def test_classes_of_ones_own_are_found_in_the_current_folder(tmp_path: Path) -> None:
    """As a script of the package is started: without that folder among the places of modules."""
    (tmp_path / "yaml.py").touch()  # does not stand for the library
    (tmp_path / "own.py").write_text("import yaml\ndef main(_): return 3 if yaml.safe_load else 4")
    code = "import sys; from tuner.process import start; sys.exit(start('own'))"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=False)
    assert done.returncode == 3


def test_stopped_by_ctrl_c_while_the_libraries_are_imported_is_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted.py").write_text("raise KeyboardInterrupt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert start("interrupted") == 130


def test_a_reader_that_leaves_is_no_error() -> None:
    piped = f"{sys.executable} -m tuner --help | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert raising(BrokenPipeError()) == 0


def test_stopped_by_sigterm_is_143() -> None:
    assert raising(SIGTERMException()) == 143


def test_stopped_by_ctrl_c_is_130_also_where_lightning_has_caught_it() -> None:
    def command() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    assert raising(KeyboardInterrupt()) == run(command) == 130


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "no more files can be opened: [Errno 24]"),
        (ImportError("x.so: Too many open files"), "no more files can be opened: x.so"),
        (OSError(errno.ENFILE, os.strerror(errno.ENFILE)), "no more files can be opened: [Errno"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory: [Errno 12]"),
        (MemoryError(), "out of memory: Cannot allocate memory. "),
        (ArrowMemoryError("malloc of size 64 failed"), "out of memory: malloc of size 64 failed"),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot write: [Errno 28] No space"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), "a/b: Not a directory"),
    ],
)
def test_what_the_system_refuses_is_one_message_with_advice_where_there_is_any(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def command() -> None:
        raise error

    assert run(command) == 2
    plain = capsys.readouterr().err
    assert plain.startswith(f"error: {said}")
    assert plain.count("\n") == 1
    assert "--ckpt_path" not in plain
    assert run(command, "--ckpt_path last goes on") == 2
    assert capsys.readouterr().err == f"{plain.rstrip()}. --ckpt_path last goes on\n"


def test_what_the_system_refuses_during_the_import_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "refused.py").write_text("raise MemoryError")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert start("refused") == 2
    assert capsys.readouterr().err.startswith("error: out of memory: ")


def test_a_full_disk_behind_the_output_has_no_advice_for_a_training() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tuner", "--help"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: cannot write: [Errno 28] No space left on device\n"


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())
    with pytest.raises(SystemExit) as stop:
        raising(SystemExit(0))
    assert stop.value.code == 0


def test_nearest() -> None:
    assert nearest("lora", ["LoRA", "Full"]) == "Did you mean 'LoRA'? Allowed: Full, LoRA."
    assert nearest("xyz", ["LoRA", "Full"]) == "Allowed: Full, LoRA."


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--help"], 0, "usage: tuner COMMAND"),
        ([], 0, "usage: tuner COMMAND"),
        (["fitt"], 2, "no command 'fitt'. Did you mean 'fit'?"),
        (["eval", "nothere"], 2, "no run named 'nothere'"),
    ],
)
def test_the_console_command(arguments: list[str], code: int, text: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tuner", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == code
    assert text in (done.stdout if code == 0 else done.stderr)
    assert "Traceback" not in done.stderr


PARENT = """
import os, subprocess, sys, time
child = "from tuner.process import follow_parent; follow_parent(); import time; time.sleep(60)"
own = {"LOCAL_RANK": "1", "TUNER_FIRST_PROCESS": str(os.getpid())}
one = subprocess.Popen([sys.executable, "-c", child], env=os.environ | own)
print(one.pid, flush=True)
time.sleep(60)
"""


def test_a_process_ends_with_the_one_that_started_it() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(2)  # it has imported and looks for its parent
        assert psutil.pid_exists(child)
        parent.kill()
    _, alive = psutil.wait_procs([psutil.Process(child)] if psutil.pid_exists(child) else [], 20)
    assert not alive


def test_a_process_whose_first_one_is_gone_before_it_looks_ends() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    child = "from tuner.process import follow_parent; follow_parent(); import time; time.sleep(60)"
    own = os.environ | {"LOCAL_RANK": "1", "TUNER_FIRST_PROCESS": str(gone.pid)}
    done = subprocess.run(
        [sys.executable, "-c", child], cwd=ROOT, env=own, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 2
    assert "error: trainer.devices: the first process of this run has ended" in done.stderr


def test_a_process_ends_soon_after_the_one_it_is_told_to_follow() -> None:
    child = (
        "import signal, sys, time; from tuner.process import follow_parent; follow_parent();"
        "signal.signal(signal.SIGTERM, lambda *_: (print('asked', flush=True), sys.exit(143)));"
        "print('ready', flush=True); time.sleep(60)"
    )
    parent = (
        "import os, subprocess, sys, time;"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1]],"
        "env=os.environ | {'TUNER_PARENT': str(os.getpid())}); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, child], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGKILL)
        assert process.stdout.readline() == "asked\n"
        assert process.stdout.read() == ""
