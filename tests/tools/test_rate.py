"""`tuner rate` from the command line."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from comparisons import ROOT, SYSTEMS, write_comparison

from tuner.evaluation.predictions import read_predictions, write_predictions
from tuner.rating.study import RUBRIC
from tuner.tools.rate import main


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    write_comparison(tmp_path / "compare" / "lora")

    def call(*options: object, name: str = "lora") -> tuple[int, str, str]:
        code = main([name, f"--logs={tmp_path}", *map(str, options)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def export(run: Any, file: Path, *options: object) -> tuple[int, str, str]:
    return run(f"--export={file}", "--rater=Ann", *options)


def test_a_sheet_goes_out_and_comes_back(run: Any, tmp_path: Path) -> None:
    sheet = tmp_path / "ann.csv"
    code, out, _ = export(run, sheet, "--items=4", "--seed=5")
    assert code == 0
    assert "4 items" in out
    marks = ",".join(["4"] * 2 * (len(RUBRIC) + 1))
    blank = "," * (2 * (len(RUBRIC) + 1) - 1)
    sheet.write_text(sheet.read_text().replace(f",{blank},,", f",{marks},tie,fine"))
    assert run(f"--import={sheet}") == (
        0,
        "Sheet: 48 values read, 48 of them new or changed.\n",
        "",
    )
    assert run(f"--import={sheet}") == (0, "Sheet: 48 values read, 0 of them new or changed.\n", "")
    sheet.write_text(sheet.read_text().replace(",4,4,", ",4,7,", 1))
    code, _, err = run(f"--import={sheet}")
    assert code == 2
    assert f"{sheet}:2: column" in err
    assert "not '7'" in err


def test_what_was_begun_needs_no_options_and_takes_no_others(run: Any, tmp_path: Path) -> None:
    assert export(run, tmp_path / "1.csv", "--items=4", "--seed=5", "--repeats=1")[0] == 0
    assert export(run, tmp_path / "2.csv")[0] == 0
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    again = ("--items=4", "--seed=5", "--repeats=1", "--systems", *reversed(SYSTEMS))
    assert export(run, tmp_path / "3.csv", *again)[0] == 0
    for other in ("--items=5", "--seed=6", "--repeats=0"):
        code, _, err = export(run, tmp_path / "x.csv", other)
        assert code == 2
        assert f"{other.split('=')[0]}: rating was begun with" in err


def test_ratings_of_other_answers_are_refused(run: Any, tmp_path: Path) -> None:
    assert export(run, tmp_path / "1.csv")[0] == 0
    file = tmp_path / "compare" / "lora" / "predictions.jsonl"
    write_predictions(file, read_predictions(file)[1:])
    code, _, err = export(run, tmp_path / "2.csv")
    assert code == 2
    assert "ratings of other answers" in err
    assert "ratings.sqlite away" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--items=0"], "--items: 0"),
        (["--seed=-1"], "--seed: -1"),
        (["--port=-1"], "--port: -1"),
        (["--port=99999"], "--port"),
        (["--host=nothere.invalid"], "--host"),
        (["--systems", "loar"], "no answers of 'loar'"),
        (["--export=x.csv"], "--rater"),
        (["--rater=Ann"], "--rater"),
        (["--export=x.csv", "--import=y.csv", "--rater=Ann"], "choose one"),
        (["--export=/nothere/x.csv", "--rater=Ann"], "--export: cannot write"),
        (["--import=/nothere/x.csv"], "--import: cannot read"),
        (["--itmes=3"], "items"),
    ],
)
def test_mistakes(options: list[str], message: str, run: Any) -> None:
    code, _, err = run("--no_browser", *options)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_a_comparison_that_is_not_there(run: Any, tmp_path: Path) -> None:
    code, _, err = run("--no_browser", name="lore")
    assert code == 2
    assert "Did you mean 'lora'?" in err


def test_a_port_that_is_taken(run: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run("--no_browser", f"--port={taken.getsockname()[1]}")
    assert code == 2
    assert "--port 0" in err


def test_the_command_serves_this_machine_alone_until_ctrl_c(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "a")
    with subprocess.Popen(
        [sys.executable, "-m", "tuner", "rate", str(folder), "--no_browser", "--port=0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        url = line.split()[2]
        assert url.startswith("http://127.0.0.1:")
        assert all(system not in line for system in SYSTEMS)
        with urllib.request.urlopen(url, timeout=20) as page:
            assert "Your name" in page.read().decode()
        listening = Path("/proc/net/tcp").read_text() if sys.platform == "linux" else ""
        port = f"{int(url.rstrip('/').rpartition(':')[2]):04X}"
        assert f"00000000:{port}" not in listening
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err == ""


def test_a_sheet_that_could_not_be_written_is_not_there(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        code, _, err = export(run, tmp_path / "sheet.csv")
    assert (code, list(tmp_path.glob("*.csv"))) == (2, [])
    assert "No space left" in err
    assert export(run, tmp_path / "sheet.csv")[0] == 0
