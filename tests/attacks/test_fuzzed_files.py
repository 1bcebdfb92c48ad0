"""Files that people and commands have written, damaged: each command says so in one message."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from tests.attacks.commands import said
from tests.attacks.damage import attack, changed, damaged
from tests.comparisons import write_comparison
from tests.conftest import ROOT
from tests.evaluation.made import made
from tuner.errors import UserError
from tuner.evaluation.predictions import write_predictions
from tuner.evaluation.results import write_results
from tuner.evaluation.suite import load_suite
from tuner.rating.store import FILE, Store
from tuner.sweep.reading import read_definition
from tuner.sweep.search import make_pruner
from tuner.tools import rate, report
from tuner.written import MOST_VALUES, load

Figures = Callable[..., None]
REPLIES = {"base": ["one two", "three", "four"], "lora": ["one two three", "two", "x"]}


def in_yaml(tree: Any) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")


def in_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def of_yaml(files: list[Path]) -> st.SearchStrategy[bytes]:
    """Shipped files with values changed, or damaged byte by byte."""
    contents = [file.read_bytes() for file in files]
    trees = [yaml.safe_load(content) for content in contents]
    changes = st.sampled_from(range(len(trees))).flatmap(lambda place: changed(trees[place]))
    return st.sampled_from(contents).flatmap(damaged) | changes.map(in_yaml)


def refusal(read: Callable[[], object]) -> bool:
    try:
        read()
    except UserError as error:
        return bool(str(error).strip())
    return False


@pytest.mark.parametrize("cases", [15, pytest.param(3000, marks=pytest.mark.soak)])
def test_suites(cases: int, tmp_path: Path, figures: Figures) -> None:
    refused = Counter[bool]()
    file = tmp_path / "suite.yaml"

    def check(content: bytes) -> None:
        file.write_bytes(content)
        refused[refusal(lambda: load_suite(file))] += 1

    shipped = sorted((ROOT / "configs/suites").glob("*.yaml"))
    tried = attack(cases, of_yaml(shipped), check)
    assert refused[True] > 0 < refused[False]
    figures("input", "damaged suites", tried, refused=refused[True], read=refused[False])


@pytest.mark.parametrize("cases", [60, pytest.param(3000, marks=pytest.mark.soak)])
def test_sweeps(
    cases: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    monkeypatch.chdir(ROOT)
    refused = Counter[bool]()
    file = tmp_path / "sweep.yaml"

    def read() -> None:
        found = read_definition(file, {})
        make_pruner(found.pruner)
        assert len(found.names()) == (found.trials or len(found.grid()))
        for setting in found.samples():
            assert all(isinstance(word, str) for word in found.arguments(setting))
        json.dumps(found.described())

    def check(content: bytes) -> None:
        file.write_bytes(content)
        refused[refusal(read)] += 1

    shipped = sorted((ROOT / "configs/sweeps").glob("*.yaml"))
    tried = attack(cases, of_yaml(shipped), check)
    assert refused[True] > 0 < refused[False]
    figures("input", "damaged sweeps", tried, refused=refused[True], read=refused[False])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
            for old, new in ("ab", "bc", "cd", "de", "ef", "fg", "gh"))
         , f"more than {MOST_VALUES:,} values"),
        ("a: &a [*a]\n", "or for themselves"),
        ("? [a, b]\n: c\n", "unhashable"),
        ("a: " + "[" * 1500, "cannot read"),
    ],
    ids=["billions", "itself", "key", "deep"],
)  # fmt: skip
def test_yaml_that_has_no_end_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(UserError, match=r"--suite: .*a\.yaml") as caught:
        load(tmp_path / "a.yaml", "--suite")
    assert message in str(caught.value)


def test_an_alias_is_read_as_what_it_stands_for(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {b: [1]}\nc: [*a, *a]\n")
    whole = {"a": {"b": [1]}, "c": [{"b": [1]}, {"b": [1]}]}
    assert load(tmp_path / "a.yaml", "--suite") == whole


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("{a: [2024-01-01]}", "date is not JSON serializable; put it in quotes"),
        ("{a: {low: -.inf, high: 1}}", "low: -inf is no finite number"),
        ("{a: {low: null, high: 1}}", "low: must be a number, not empty"),
        ("{a: {low: 0, high: 1}}\ntrials: 1000000000", "more than 100,000 runs"),
    ],
)
def test_values_that_no_sweep_can_try(over: str, message: str, tmp_path: Path) -> None:
    more = "" if "trials" in over or "2024" in over else "\ntrials: 2"
    (tmp_path / "a.yaml").write_text(f"config: x.yaml\nover: {over}{more}\n")
    with pytest.raises(UserError) as caught:
        read_definition(tmp_path / "a.yaml", {})
    assert message in str(caught.value)


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    """A folder with predictions.jsonl and results.json."""
    folder = tmp_path / "whole"
    folder.mkdir()
    results, rows = made(REPLIES)
    write_predictions(folder / "predictions.jsonl", rows)
    write_results(folder / "results.json", results)
    return folder


def of_comparison(folder: Path) -> st.SearchStrategy[tuple[str, bytes]]:
    """The name of a file of a comparison, and what it holds now."""
    lines, results = (folder / name for name in ("predictions.jsonl", "results.json"))
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    spoilt = changed(rows).map(
        lambda rows: b"\n".join(map(in_json, rows if isinstance(rows, list) else [rows]))
    )
    tree = changed(json.loads(results.read_text(encoding="utf-8"))).map(in_json)
    return st.one_of(
        st.tuples(st.just(lines.name), damaged(lines.read_bytes()) | spoilt),
        st.tuples(st.just(results.name), damaged(results.read_bytes()) | tree),
    )


@pytest.mark.parametrize("cases", [3, pytest.param(200, marks=pytest.mark.soak)])
def test_reports_of_a_comparison(cases: int, comparison: Path, figures: Figures) -> None:
    folder, refused = comparison.with_name("spoilt"), Counter[bool]()

    def check(case: tuple[str, bytes]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(comparison, folder)
        (folder / case[0]).write_bytes(case[1])
        refused[bool(said(report.main, folder))] += 1

    tried = attack(cases, of_comparison(comparison), check)
    assert refused[True] > 0
    figures("input", "`tuner report` on damaged comparisons", tried, refused=refused[True])


@pytest.mark.parametrize("cases", [25, pytest.param(2000, marks=pytest.mark.soak)])
def test_rating_a_comparison(cases: int, comparison: Path, figures: Figures) -> None:
    folder, refused = comparison.with_name("spoilt"), Counter[bool]()

    def check(case: tuple[str, bytes]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(comparison, folder)
        (folder / case[0]).write_bytes(case[1])
        sheet = folder / "sheet.csv"
        refused[bool(said(rate.main, folder, "--export", sheet, "--rater", "me"))] += 1

    tried = attack(cases, of_comparison(comparison), check)
    assert refused[True] > 0 < refused[False]
    figures("input", "`tuner rate` on damaged comparisons", tried, refused=refused[True])


@pytest.mark.parametrize("cases", [25, pytest.param(2000, marks=pytest.mark.soak)])
def test_rating_sheets(cases: int, tmp_path: Path, figures: Figures) -> None:
    folder, sheet, refused = write_comparison(tmp_path / "c"), tmp_path / "a.csv", Counter[bool]()
    assert not said(rate.main, folder, "--export", sheet, "--rater", "me")
    content = sheet.read_bytes()
    cells = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    for row in cells[1:]:
        row[-8:] = ["3"] * 8

    def in_csv(rows: Any) -> bytes:
        text = io.StringIO()
        listed = rows if isinstance(rows, list) else [rows]
        csv.writer(text).writerows(row if isinstance(row, list) else [row] for row in listed)
        return text.getvalue().encode("utf-8", "surrogatepass")

    def check(content: bytes) -> None:
        sheet.write_bytes(content)
        refused[bool(said(rate.main, folder, "--import", sheet))] += 1

    tried = attack(cases, damaged(content) | changed(cells).map(in_csv), check)
    assert refused[True] > 0
    figures("input", "damaged rating sheets", tried, refused=refused[True])


@pytest.mark.parametrize("cases", [25, pytest.param(1000, marks=pytest.mark.soak)])
def test_stored_ratings(cases: int, tmp_path: Path, figures: Figures) -> None:
    folder, sheet = write_comparison(tmp_path / "c"), tmp_path / "a.csv"
    export = (folder, "--export", sheet, "--rater", "me")
    assert not said(rate.main, *export)
    sheet.unlink()
    whole = (folder / FILE).read_bytes()
    with closing(sqlite3.connect(folder / FILE)) as database:
        study = json.loads(database.execute("SELECT settings FROM study").fetchone()[0])
    refused = Counter[bool]()

    def check(case: bytes | str) -> None:
        (folder / FILE).write_bytes(case if isinstance(case, bytes) else whole)
        if isinstance(case, str):
            with closing(sqlite3.connect(folder / FILE)) as database, database:
                database.execute("UPDATE study SET settings = ?", [case])
        refused[bool(said(rate.main, *export))] += 1
        sheet.unlink(missing_ok=True)

    tried = attack(cases, damaged(whole) | changed(study).map(json.dumps), check)
    assert refused[True] > 0
    figures("input", "damaged stored ratings", tried, refused=refused[True])


def test_a_study_that_was_changed_is_refused_where_it_is_read(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c")
    assert not said(rate.main, folder, "--export", tmp_path / "a.csv", "--rater", "me")
    with closing(sqlite3.connect(folder / FILE)) as database, database:
        (text,) = database.execute("SELECT settings FROM study").fetchone()
        database.execute(
            "UPDATE study SET settings = ?", [text.replace('"repeats": 0', '"repeats": 99')]
        )
    with pytest.raises(UserError, match=r"not as it was written.*repeats is 99"):
        Store(folder).study()
