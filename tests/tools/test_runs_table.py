"""`tuner runs` shows what is known of every run, whatever state its files are in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tuner.hold import LOCK
from tuner.overview import overview
from tuner.runs import claim, write_record
from tuner.tools.runs import COLUMNS, main

RECORD: dict[str, Any] = {
    "status": "finished", "started": "2026-11-21T03:01:59+0000", "head": "LoRA", "base": "pico",
    "quantize": None, "trainable_percent": 7.0498, "steps": 1204, "tokens_per_second": 2391.9,
    "peak_memory_mib": 1701.4, "best": {"val_loss": 2.6881468, "step": 100},
}  # fmt: skip


def make_run(root: Path, name: str = "lora", **more: Any) -> Path:
    folder = claim(root, name)
    write_record(folder, RECORD | more)
    return folder


def make_comparison(root: Path, name: str, content: Any, when: int = 1000) -> None:
    folder = root / "compare" / name
    folder.mkdir(parents=True)
    file = folder / "results.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    os.utime(file, (when, when))


def results(**scores: float) -> dict[str, Any]:
    """Results with a system for each run, named `name/version_N`, and a base."""
    systems = {
        f"system {run}": {"run": run.replace("__", "/"), "metrics": {"rougeL": score, "bleu": 0.5}}
        for run, score in scores.items()
    }
    base = {"run": None, "metrics": {"rougeL": 0.9}}
    return {"primary_metric": "rougeL", "systems": {"base": base, **systems}}


@pytest.fixture
def runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def call(*options: str, width: int | None = None) -> tuple[int, str, str]:
        monkeypatch.delenv("COLUMNS", raising=False)
        if width:
            monkeypatch.setenv("COLUMNS", str(width))
        code = main([f"--root={tmp_path}", *options])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_a_real_run_has_all_figures(pico_logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--logs={pico_logs}", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row.keys() == COLUMNS.keys()
    unknown = {key for key, value in row.items() if value is None}
    assert unknown == {"metric", "score", "comparison"}
    record = json.loads((pico_logs / "lora" / "version_0" / "run.json").read_text())
    assert (row["name"], row["version"], row["status"]) == ("lora", 0, "finished")
    assert (row["head"], row["base"], row["steps"]) == ("LoRA", "pico", 2)
    assert row["val_loss"] == record["best"]["val_loss"]


def test_the_table_shows_them_for_people(runs: Any, tmp_path: Path) -> None:
    make_run(tmp_path)
    make_run(tmp_path, "qlora", quantize="nf4", best={})
    make_comparison(tmp_path, "both", results(lora__version_0=0.4112))
    code, out, _ = runs()
    head, first, second = out.splitlines()
    assert code == 0
    assert head.split() == [
        *("name", "version", "status", "val_loss", "head", "score", "metric", "steps", "trained"),
        *("base", "tokens/s", "memory", "MiB", "started", "comparison"),
    ]
    assert first.split() == [
        *("lora", "0", "finished", "2.6881", "LoRA", "0.411", "rougeL", "1,204", "7.050", "%"),
        *("pico", "2,392", "1,701", "2026-11-21", "03:01", "both"),
    ]
    assert second.split()[:5] == ["qlora", "0", "finished", "LoRA", "1,204"]
    assert "pico nf4" in second


def test_it_can_be_sorted_by_any_column(runs: Any, tmp_path: Path) -> None:
    for loss, started in ((2.0, "03:00:00+0000"), (10.0, "02:00:00-0500"), (1.0, "01:00:00+0000")):
        make_run(tmp_path, best={"val_loss": loss}, started=f"2026-11-21T{started}")
    make_run(tmp_path, best={}, started=None)
    for _ in range(8):
        make_run(tmp_path, "other", best={}, started=None)

    def order(*options: str) -> list[int]:
        found = json.loads(runs("--json", *options)[1])
        return [row["version"] for row in found if row["name"] == "lora"]

    assert order() == [2, 0, 1, 3], "by time, whatever the zone; without one at last"
    assert order("--sort=val_loss") == [2, 0, 1, 3], "by number, not by letters"
    assert order("--sort=val_loss", "--reverse") == [1, 0, 2, 3]
    for column in COLUMNS:
        for more in ([], ["--reverse"]):
            code, out, _ = runs(f"--sort={column}", *more)
            assert code == 0
            assert len(out.splitlines()) == 13


def test_the_newest_comparison_counts_and_only_for_its_own_version(
    runs: Any, tmp_path: Path
) -> None:
    for _ in range(3):
        make_run(tmp_path)
    make_comparison(tmp_path, "new", results(lora__version_1=0.3), when=2000)
    make_comparison(tmp_path, "old", results(lora__version_1=0.1, lora__version_0=0.2), when=1000)
    rows = json.loads(runs("--json")[1])
    assert [(row["score"], row["comparison"]) for row in rows] == [
        (0.2, "old"), (0.3, "new"), (None, None)
    ]  # fmt: skip


BROKEN: dict[str, str | None] = {
    "nothing": None,
    "empty": "",
    "cut": '{"status": "fin',
    "list": "[1, 2]",
    "text": '"finished"',
    "types": json.dumps(
        {"status": 3, "best": [1], "steps": "many", "started": "yesterday", "base": {"a": 1},
         "trainable_percent": True, "tokens_per_second": None}
    ),
    "numbers": '{"status": "finished", "steps": 1, "best": {"val_loss": NaN}, '
    '"peak_memory_mib": Infinity}',
    "bytes": "\ud800",
}  # fmt: skip


def test_broken_folders_break_nothing(runs: Any, tmp_path: Path) -> None:
    for name, content in BROKEN.items():
        folder = claim(tmp_path, name)
        if content is not None:
            (folder / "run.json").write_bytes(content.encode("utf-8", "surrogatepass"))
            (folder / "metrics.csv").write_bytes(b"step,val_loss\n1,\xff\n\x00")
    (tmp_path / "types" / "version_1").write_text("a file")
    (tmp_path / "types" / "version_x").mkdir()
    (tmp_path / "a file").write_text("")
    (tmp_path / "gone").symlink_to(tmp_path / "nothere")
    comparisons = [
        *("", "[]", "\x00", '{"primary_metric": "x"}', '{"primary_metric": "x", "systems": [1]}'),
        '{"primary_metric": ["x"], "systems": {"a": {"metrics": {}}}}',
    ]
    for number, content in enumerate(comparisons):
        make_comparison(tmp_path, str(number), content)
    make_run(tmp_path)
    for options in ([], ["--json"], ["--sort=val_loss"], ["--sort=status", "--reverse"]):
        code, _, err = runs(*options)
        assert (code, err) == (0, ""), options
    rows = {row["name"]: row for row in json.loads(runs("--json")[1])}
    assert rows.keys() == {*BROKEN, "lora"}
    assert {rows[name]["status"] for name in BROKEN} == {"incomplete", "finished"}
    assert rows["numbers"]["val_loss"] is rows["numbers"]["peak_memory_mib"] is None
    assert rows["lora"]["val_loss"] == 2.6881468


HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_run_that_goes_on_is_told_from_one_that_was_killed(tmp_path: Path) -> None:
    for _ in range(2):
        folder = make_run(tmp_path, status="running", started="2026-11-21T03:01:59+0000")
        record = {"status": "running", "head": "LoRA"}
        write_record(folder, record)
        (folder / "metrics.csv").write_text(
            "step,train_loss,val_loss\n9,3.5,\n19,,2.5\n19,2.2,\n39,,2.75\n49,1.9"
        )
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder / LOCK)], stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        states = [row["status"] for row in overview(tmp_path)]
        again = [row["status"] for row in overview(tmp_path)]
        other.kill()
    assert states == again == ["killed", "running"]
    rows = overview(tmp_path)
    assert [row["status"] for row in rows] == ["killed", "killed"]
    assert {(row["steps"], row["val_loss"]) for row in rows} == {(50, 2.5)}


@pytest.mark.parametrize("width", [1, 9, 20, 40, 60, 80, 100, 140])
def test_it_fits_a_terminal_of_any_width(width: int, runs: Any, tmp_path: Path) -> None:
    make_run(tmp_path, "a-name-" * 8)
    make_run(tmp_path, "b", base="some/base-with-a-你好-name")
    make_comparison(tmp_path, "c", results(b__version_0=0.4))
    code, out, _ = runs(width=width)
    assert code == 0
    lines = out.splitlines()
    assert max(map(cell_len, lines)) <= width
    left_out = " ".join(lines[3:])
    if width >= 40:
        assert left_out.startswith("no room for")
        assert "--json has all" in left_out
    if width == 140:
        assert "val_loss" in lines[0]


def test_hostile_names_steer_nothing(runs: Any, tmp_path: Path) -> None:
    folder = tmp_path / "\x1b[2J\u202e\udcff[bold]" / "version_0"
    folder.mkdir(parents=True)
    write_record(folder, RECORD | {"head": "\x1b]0;title\x07", "base": "a\nb"})
    _, out, _ = runs()
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "[bold]" in out
    assert len(out.splitlines()) == 2
    assert json.loads(runs("--json")[1])[0]["base"] == "a\nb"


def test_mistakes(runs: Any, tmp_path: Path) -> None:
    code, _, err = runs("--sort=valloss")
    assert code == 2
    assert "Did you mean 'val_loss'?" in err
    assert runs("--srot=name")[0] == 2
    code, out, _ = runs()
    assert code == 0
    assert "There are no runs" in out
    assert json.loads(runs("--json")[1]) == []
    code, _, err = runs(f"--root={tmp_path / 'nothere'}")
    assert code == 2
    assert "no such folder" in err
