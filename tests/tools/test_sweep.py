"""`tuner sweep` from end to end: killed, gone on with, compared; and what it refuses."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, event

from tests.conftest import ROOT
from tuner.runs import read_record
from tuner.tools.sweep import main

STUB = ROOT / "tests" / "sweep" / "stub_fit.py"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes the YAML of a sweep and a recipe."""

    def call(**keys: Any) -> Path:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text("seed_everything: 1\n")
        file = tmp_path / "ranks.yaml"
        content = {"config": str(recipe), "over": {"loss": [1, 2]}, "seeds": [1]} | keys
        file.write_text(yaml.safe_dump(content))
        return file

    return call


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """Starts a sweep in a process of its own, which need not import everything anew."""
    running: list[Any] = []

    def call(arguments: list[str]) -> Any:
        process: Any = multiprocessing.get_context("fork").Process(
            target=lambda: sys.exit(main(arguments))
        )
        process.start()
        running.append(process)
        return process

    yield call
    for process in running:
        process.kill()
        process.join()


@pytest.fixture
def with_stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub is run for `fit`, and no setting is read first."""
    monkeypatch.setattr("tuner.tools.sweep.check", lambda definition: None)
    monkeypatch.setattr("tuner.sweep.fit.PROGRAM", (sys.executable, "-S", str(STUB)))
    monkeypatch.setattr("tuner.sweep.fit.POLL", 0.02)


def wait_for(there: Callable[[], Any], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def claims(folder: Path) -> list[str]:
    """The runs that were started, by the file of their output."""
    return [
        f"{file.stem} {line.split('--seed_everything=')[1].split()[0]}"
        for file in (folder / "output").glob("*.log")
        for line in file.read_text().splitlines()
        if line.startswith("starting")
    ]


def test_a_sweep_is_killed_goes_on_and_ends_in_one_comparison(
    write: Callable[..., Path],
    command: Callable[..., list[str]],
    start: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the real `fit` on a small base: everything but the stub."""
    file = write(
        over={"model.head.r": [2]},
        options={"trainer.max_epochs": 6, "checkpoint.every_n_steps": 1, "data.val_size": 6},
        evaluation={
            "max_new_tokens": 4, "limit": 3, "latency": 0, "baselines": [], "metrics": ["rougeL"],
        },
    )  # fmt: skip
    options = [word for word in command("fit")[1:] if "default_root_dir" not in word]
    arguments = [str(file), f"--logs={tmp_path / 'logs'}", *options, "--data.test_size=4"]
    folder = tmp_path / "logs" / "sweeps" / "ranks"
    first = folder / "r-2" / "version_0"
    process = start(arguments)
    wait_for((first / "checkpoints" / "last.ckpt").exists, 120)
    process.kill()
    process.join()
    assert read_record(first)["status"] == "running"
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "[1/1] r=2 seed=1: val_loss" in out
    resumed = read_record(folder / "r-2" / "version_1")
    assert resumed["resumed_from"] == str(first / "checkpoints" / "last.ckpt")
    assert resumed["status"] == "finished"
    results = json.loads((folder / "results.json").read_text())
    best = results["settings"][0]
    assert best["val_loss"]["mean"] == resumed["best"]["val_loss"]
    compared = json.loads((folder / "comparison" / "results.json").read_text())
    tuned = [name for name in compared["systems"] if name != "base"]
    assert [name.split("@")[0] for name in tuned] == results["chosen"] == ["r-2"]
    assert compared["test_set"]["n"] == 3
    assert "rougeL" in (folder / "report.md").read_text()
    # Once more: nothing is run, and the test split is left alone.
    before = (folder / "comparison" / "results.json").stat().st_mtime_ns
    assert main(arguments) == 0
    assert (folder / "comparison" / "results.json").stat().st_mtime_ns == before
    assert len(list(folder.glob("r-*/version_*"))) == 2


@pytest.mark.usefixtures("with_stub")
def test_two_workers_share_a_sweep_and_a_killed_one_is_replaced(
    write: Callable[..., Path], start: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "logs" / "sweeps" / "ranks"
    file = write(over={"loss": [1, 2]}, seeds=[1, 2], compare=0)
    arguments = [str(file), f"--logs={tmp_path / 'logs'}", "--pause=0.3"]
    workers = [start(arguments) for _ in range(2)]
    wait_for(lambda: len(claims(folder)) == 2)
    assert len(set(claims(folder))) == 2
    workers[0].kill()
    workers[1].join(60)
    assert workers[1].exitcode == 0
    # Each run once, and once more the one whose worker was killed.
    started = claims(folder)
    assert len(set(started)) == 4
    assert len(started) == 5
    results = json.loads((folder / "results.json").read_text())
    assert [run["state"] for s in results["settings"] for run in s["runs"]] == ["complete"] * 4
    assert (folder / "report.html").is_file()


@pytest.mark.usefixtures("with_stub")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_a_signal_ends_run_and_sweep(
    number: signal.Signals,
    code: int,
    write: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "logs" / "sweeps" / "ranks"
    metrics = folder / "loss-1" / "version_0" / "metrics.csv"

    def send() -> None:
        wait_for(lambda: metrics.exists() and metrics.stat().st_size > 20)
        os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # by workers of pytest
    sender = threading.Thread(target=send)
    sender.start()
    file = write(compare=0)
    assert main([str(file), f"--logs={tmp_path / 'logs'}", "--steps=10000", "--pause=0.1"]) == code
    sender.join()
    signal.signal(signal.SIGINT, ignored)
    assert signal.getsignal(signal.SIGTERM) == before
    assert "The same command goes on" in capsys.readouterr().err
    assert read_record(metrics.parent)["status"] == "stopped"
    assert not list((folder / ".workers").iterdir())


@pytest.mark.usefixtures("with_stub")
@pytest.mark.parametrize("number", [1, 14, 29, 44])
def test_a_signal_in_a_transaction_waits_for_its_end(
    number: int, write: Callable[..., Path], tmp_path: Path
) -> None:
    arguments = [str(write(compare=0)), f"--logs={tmp_path / 'logs'}"]
    begun: list[str] = []
    went_on = False

    def send(*call: Any) -> None:
        nonlocal went_on
        if call[2] == "BEGIN IMMEDIATE":
            begun.append(call[2])
            if len(begun) == number:
                os.kill(os.getpid(), signal.SIGTERM)
                went_on = True

    event.listen(Engine, "after_cursor_execute", send)
    try:
        assert main(arguments) == 143
    finally:
        event.remove(Engine, "after_cursor_execute", send)
    assert went_on
    assert not list((tmp_path / "logs").glob("sweeps/ranks/.workers/*"))
    assert main(arguments) == 0


@pytest.mark.usefixtures("with_stub")
def test_a_login_is_written_and_printed_nowhere(
    write: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tuner.sweep import storage

    real, url = storage.open_storage, "postgresql://ann:canary@db.example/sweeps"
    # A server is stood in for by a file; all else takes the address for what it says.
    file = storage.sqlite_url(tmp_path / "server.sqlite")
    monkeypatch.setattr(storage, "open_storage", lambda _: real(file))
    arguments = [str(write(compare=0)), f"--logs={tmp_path / 'logs'}"]
    for form in ([f"--storage={url}"], ["--storage", url]):
        assert main([*arguments, *form]) == 0
        said = capsys.readouterr()
        assert "postgresql://db.example/sweeps" in said.out
        assert "canary" not in said.out + said.err
    monkeypatch.setattr(storage, "open_storage", real)
    assert main([*arguments, f"--storage={url}"]) == 2
    assert "canary" not in capsys.readouterr().err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if b"canary" in path.read_bytes()]


@pytest.mark.usefixtures("with_stub")
def test_runs_of_other_machines_are_left_out_of_the_comparison(
    write: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compared: list[list[str]] = []
    monkeypatch.setattr("tuner.tools.compare.evaluate", compared.append)
    file, logs = write(seeds=[1, 2], compare=2), tmp_path / "logs"
    folder = logs / "sweeps" / "ranks"
    assert main([str(file), f"--logs={logs}"]) == 0
    assert compared[0][:2] == ["loss-1@*", "loss-2@*"]
    capsys.readouterr()
    # What stands there is of another seed, or nothing does.
    (folder / "loss-1" / "version_1" / "config.yaml").write_text("seed_everything: 3\n")
    shutil.rmtree(folder / "loss-2")
    assert main([str(file), f"--logs={logs}"]) == 0
    out = capsys.readouterr().out
    assert [line.split(" is on ")[0][-18:] for line in out.splitlines() if "not here" in line] == [
        *("s/loss-1/version_1", "s/loss-2/version_0", "s/loss-2/version_1")
    ]
    assert compared[1][:2] == ["loss-1@*", f"--logs={folder}"]


@pytest.fixture
def refused(
    write: Callable[..., Path],
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Runs a sweep that is wrong in itself and returns the message; no run has begun."""

    def call(*options: str, **keys: Any) -> str:
        more = [word for word in command("fit")[1:] if "default_root_dir" not in word]
        sweep = {"over": {"model.head.r": [2]}} | keys
        logs = tmp_path / "logs"
        assert main([str(write(**sweep)), f"--logs={logs}", *more, *options]) == 2
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert not list(logs.rglob("version_*"))
        return said.err

    return call


def test_a_mistake_in_the_sweep_is_told_before_the_first_run(refused: Any) -> None:
    assert "Did you mean 'dropout'" in refused(over={"model.head.r": [2], "model.head.droput": [0]})
    said = refused(over={"model.head.r": [2, "many"]})
    assert "model.head.r=many" in said
    assert "expected" in said
    assert "data.val_size" in refused(options={"data.val_size": 0})
    assert "max_tokens" in refused(evaluation={"max_tokens": 3})
    assert "Did you mean 'MedianPruner'" in refused(pruner="MedianPrunr")
    assert "bach_size" in refused("--data.bach_size=3")


@pytest.mark.usefixtures("with_stub")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name=a/b"], "name: 'a/b' is not allowed"),
        (["--seeds", "one"], "seeds: 'one' is not allowed"),
        (["--seed_everything=3"], "use seeds"),
        (["--seed", "3"], "seed: is set by the sweep; use seeds"),
        (["--logs=/proc/nothere"], "--logs: cannot write"),
    ],
)
def test_mistakes(
    options: list[str],
    message: str,
    write: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(write()), f"--logs={tmp_path / 'logs'}", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("with_stub")
def test_a_folder_is_kept_for_one_sweep(
    write: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [str(write(compare=0)), f"--logs={tmp_path / 'logs'}"]
    assert main(arguments) == 0
    (tmp_path / "logs" / "sweeps" / "ranks" / "sweep.sqlite").unlink()
    for _ in range(2):
        assert main(arguments) == 2
        assert "holds the runs of another sweep" in capsys.readouterr().err


def test_without_optuna_it_says_what_to_install(
    write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tuner.tools.sweep.find_spec", lambda name: None)
    assert main([str(write())]) == 2
    assert "pip install -e '.[sweep]'" in capsys.readouterr().err
