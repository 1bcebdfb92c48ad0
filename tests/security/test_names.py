"""A name stays in its folder; what no file can be called is said, and nothing hangs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comparisons import write_comparison

from tests.conftest import ROOT
from tuner.chat.history import History
from tuner.cli import main as fit_main
from tuner.errors import UserError
from tuner.evaluation.suite import load_suite
from tuner.evaluation.testset import load_data
from tuner.process import run
from tuner.release.write import _claim  # pyright: ignore[reportPrivateUsage]
from tuner.runs import claim, find_runs
from tuner.sweep.reading import read_definition
from tuner.tools import chat, compare, export, rate, serve, sweep

# No folder of a root can have one of these names.
OUTSIDE = ("..", ".", "../x", "a/../../x", "/tmp/x", "a/b", "a\\..\\b", "~root", "-x", "", "a\0b")
OUTSIDE += ("x" * 300, ".hidden", "a\n", "/dev/null", "/dev/zero")


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_replies_stay_among_the_runs(command: Callable[..., list[str]], tmp_path: Path) -> None:
    options = command("predict")
    (tmp_path / "away").mkdir()
    (root := tmp_path / "logs").mkdir()
    (root / "link").symlink_to(tmp_path / "away")
    before = everything(tmp_path)
    for name in ("../escaped", str(tmp_path / "absolute"), "link"):
        assert fit_main([*options, f"--name={name}"]) == 2
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_run_or_sweep_has_a_plain_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "a" / "logs"
    root.mkdir(parents=True)
    before = everything(tmp_path)
    with pytest.raises(UserError, match="not allowed"):
        claim(root, name)
    options = [str(ROOT / "configs/sweeps/rank.yaml"), f"--logs={root}"]
    if name:  # without one, it is that of the file
        assert sweep.main([*options, f"--name={name}"]) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert everything(tmp_path) == before


def test_a_link_leads_no_run_out_of_its_folder(tmp_path: Path) -> None:
    root, away = tmp_path / "logs", tmp_path / "away"
    away.mkdir()
    root.mkdir()
    for name, target in (("out", away), ("up", tmp_path), ("dangling", tmp_path / "new")):
        (root / name).symlink_to(target)
        with pytest.raises(UserError, match="leads out of"):
            claim(root, name)
    assert everything(away) == set()
    assert not (tmp_path / "new").exists()
    (root / "lora").mkdir()
    (root / "lora" / "version_0").symlink_to(away)
    assert claim(root, "lora") == root / "lora" / "version_1"
    assert everything(away) == set()
    (tmp_path / "disk").symlink_to(away)  # the folder of all runs may be elsewhere
    assert claim(tmp_path / "disk", "lora").is_dir()


@pytest.mark.parametrize("there", [True, False])
def test_a_link_leads_no_sweep_out_of_its_folder(
    there: bool,
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs, away = tmp_path / "logs", tmp_path / "away"
    sweeps = logs / "sweeps"
    sweeps.mkdir(parents=True)
    if there:
        away.mkdir()
    (sweeps / "ranks").symlink_to(away)
    before = everything(tmp_path)
    file = str(ROOT / "configs/sweeps/rank.yaml")
    assert sweep.main([file, f"--logs={logs}", "--name=ranks"]) == 2
    assert "leads out of" in capsys.readouterr().err
    assert everything(tmp_path) == before
    (sweeps / "ranks").unlink()  # nor the folder of all sweeps
    sweeps.rename(logs / "own")
    sweeps.symlink_to(away)
    before = everything(tmp_path)
    assert sweep.main([file, f"--logs={logs}", "--name=ranks"]) == 2
    assert "leads out of" in capsys.readouterr().err
    assert everything(tmp_path) == before
    sweeps.unlink()
    (logs / "own").rename(sweeps)
    # One of its runs, as the sweep starts it.
    (sweeps / "other").mkdir()
    (sweeps / "other" / "r-2").symlink_to(away)
    own = ("--name=r-2", f"--trainer.default_root_dir={sweeps / 'other'}")
    assert fit_main(command("fit", *own, "--trainer.max_steps=1")) == 2
    assert "leads out of" in capsys.readouterr().err
    assert away.exists() == there
    assert not there or not everything(away)


NAMED: dict[str, Callable[[str, Path], Any]] = {
    "run": lambda name, logs: compare.main([name, f"--logs={logs}"]),
    "run, version": lambda name, logs: compare.main([f"lora@{name}", f"--logs={logs}"]),
    "run to chat": lambda name, logs: chat.main([name, f"--logs={logs}", "--history=null"]),
    "run to export": lambda name, logs: export.main([name, f"--to={logs / 'x'}", f"--logs={logs}"]),
    "run to serve": lambda name, logs: serve.main([name, f"--logs={logs}", "--port=0"]),
    "comparison": lambda name, logs: rate.main([name, f"--logs={logs}", "--no_browser"]),
    "suite": lambda name, _: run(lambda: load_suite(name) and None),
    "data": lambda name, _: run(lambda: load_data(DATA, Path(name)) and None),
    "sheet": lambda name, logs: rate.main(["c", f"--logs={logs}", f"--import={name}"]),
    "sweep": lambda name, _: run(lambda: read_definition(Path(name), {}, []) and None),
    "export": lambda name, _: run(lambda: _claim(Path(name)) and None),
    "history": lambda name, _: run(lambda: History(Path(name), "lora") and None),
}
DATA = {"source": {"class_path": "Conversations", "init_args": {"path": "rows.jsonl"}}}
# What no tool can read from, and where none can write.
NOTHING = ("/dev/zero", "/dev/null/x", "a\0b", "x" * 300, "/proc/self/mem")


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("what", NAMED)
def test_what_is_named_is_refused_with_a_message(
    what: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_comparison(tmp_path / "logs" / "compare" / "c")
    (tmp_path / "logs" / "lora" / "version_0").mkdir(parents=True)
    before = everything(tmp_path)
    assert NAMED[what](name, tmp_path / "logs") == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert "Traceback" not in error
    new = {path.name for path in everything(tmp_path) - before}
    assert new <= {"ratings.sqlite"}, "what rating begins with, beside the answers"


@pytest.mark.parametrize("what", ["export", "history"])
def test_half_a_character_is_no_name(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert NAMED[what]("\ud800", tmp_path) == 2
    assert "no file can have such a name" in capsys.readouterr().err


SLOW = pytest.mark.slow
PATHS = ("data.source.path", "data.cache_dir", "trainer.default_root_dir", "ckpt_path")
PATHS += ("model.base", "model.init_adapter", "config")


@pytest.mark.parametrize("key", [*PATHS[:2], *(pytest.param(p, marks=SLOW) for p in PATHS[2:])])
def test_a_path_of_a_config_is_refused_with_a_message(
    key: str, command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("/dev/zero", "/dev/null/x", "a\0b", "x" * 300):
        assert fit_main(command("fit", f"--{key}={name}", "--trainer.max_steps=1")) == 2, name
        error = capsys.readouterr().err
        assert error.count("error:") == 1
        assert "Traceback" not in error


def test_a_run_that_is_named_by_a_path_keeps_its_comparison_in_the_folder_of_comparisons(
    fit: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder = fit("--trainer.max_steps=1")
    monkeypatch.chdir(run_folder / "adapter")
    assert find_runs("..", tmp_path)[0][1] == Path("..")
    before = everything(tmp_path)
    options = ["--limit=1", "--max_new_tokens=1", "--latency=0", "--baselines=[]"]
    assert compare.main(["..", f"--logs={tmp_path / 'logs'}", *options]) == 0
    new = {path.relative_to(tmp_path / "logs").parts[:2] for path in everything(tmp_path) - before}
    assert new == {("compare",), ("compare", "runs")}


def test_the_lock_of_prepared_data_follows_no_link(
    fit: Callable[..., Path], tmp_path: Path
) -> None:
    fit("--trainer.max_steps=1")
    (prepared,) = (tmp_path / "cache").glob("*/")
    lock = prepared.with_name(f"{prepared.name}.lock")
    precious = tmp_path / "precious"
    precious.write_text("keep")
    lock.unlink(missing_ok=True)
    os.symlink(precious, lock)
    with pytest.raises((AssertionError, OSError)):
        fit("--trainer.max_steps=1")
    assert precious.read_text() == "keep"
