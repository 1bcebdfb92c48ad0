"""A comparison's files are read where they are of this version, and of one another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.commands import said
from tests.evaluation.made import REFERENCE, made
from tuner.evaluation.predictions import write_predictions
from tuner.evaluation.reading import MADE_OF
from tuner.evaluation.results import write_results
from tuner.sums import sha256_of
from tuner.tools import rate, report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    results, rows = made({"base": [REFERENCE, "one"], "lora": [REFERENCE, "two"]}, resamples=20)
    write_predictions(tmp_path / "predictions.jsonl", rows)
    results[MADE_OF] = sha256_of(tmp_path / "predictions.jsonl")
    write_results(tmp_path / "results.json", results)
    return tmp_path


def changed(folder: Path, **values: Any) -> None:
    file = folder / "results.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def both(folder: Path) -> list[str]:
    """What the commands say that read results and predictions."""
    sheet = folder / "sheet.csv"
    sheet.unlink(missing_ok=True)
    return [said(rate.main, folder, "--export", sheet, "--rater=me"), said(report.main, folder)]


def test_what_fits_is_read_and_still_fits_then(folder: Path) -> None:
    assert both(folder) == both(folder) == ["", ""]


def test_a_comparison_from_before_is_read(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    del results[MADE_OF]
    write_results(folder / "results.json", results)
    file = folder / "predictions.jsonl"
    file.write_text(file.read_text().replace('"prediction": "two', '"prediction": "too'))
    assert both(folder) == ["", ""]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"prediction": "two', '"prediction": "too'),
        lambda text: text.replace('"rougeL": 1.0', '"rougeL": 0.5'),
        lambda text: "".join(line * 2 for line in text.splitlines(keepends=True)),
        lambda text: text[: text.rindex("{")],
    ],
)
def test_predictions_of_another_comparison_are_refused(
    change: Callable[[str], str], folder: Path
) -> None:
    file = folder / "predictions.jsonl"
    whole = file.read_text()
    file.write_text(change(whole))
    assert file.read_text() != whole
    before = {one.name: one.read_bytes() for one in folder.iterdir()}
    told = said(report.main, folder)
    assert "predictions.jsonl: not what results.json was made of" in told
    assert "eval.py again" in told
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == before
    assert both(folder)[0], "rated all the same"


@pytest.mark.parametrize("schema", [99, "2", None])
def test_results_of_another_version_are_refused(schema: object, folder: Path) -> None:
    changed(folder, schema=schema)
    for told in both(folder):
        assert f"results.json: schema: {schema!r} is of another version" in told
        assert "this one reads 1" in told
