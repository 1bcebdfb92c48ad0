"""TensorBoard and the spreadsheet hold what results.json and predictions.jsonl hold."""

import csv
from pathlib import Path

import pytest
from made import hostile, made
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tuner.evaluation.board import folder_names, write_board
from tuner.evaluation.predictions import write_table
from tuner.spreadsheet import FORMULA


def test_scalars_and_texts_of_each_system_once(tmp_path: Path) -> None:
    results, rows = made({"base": ["one x"] * 4, "lora": ["one two three four"] * 4})
    results["curves"] = {"lora": {"train": [[1, 2.0], [2, 1.5]], "val": []}}
    for _ in range(2):
        write_board(tmp_path, results, rows)
    assert len(list(tmp_path.glob("*/*"))) == 2
    events = EventAccumulator(str(tmp_path / "lora"))
    events.Reload()
    (value,) = events.Scalars("metrics/rougeL")
    assert value.value == pytest.approx(results["systems"]["lora"]["metrics"]["rougeL"])
    assert [(one.step, one.value) for one in events.Scalars("loss/train")] == [(1, 2.0), (2, 1.5)]
    (text,) = events.Tensors("example 1/text_summary")
    assert b"```text\none two three four\n```" in text.tensor_proto.string_val[0]


def test_hostile_names_stay_inside_the_folder_and_texts_inside_fences(tmp_path: Path) -> None:
    write_board(tmp_path / "board", *hostile())
    assert [one.name for one in tmp_path.iterdir()] == ["board"]
    assert len(list((tmp_path / "board").glob("*/events*"))) == 3
    assert folder_names(["../..", "a/b", "A-b", "", "con\n"]) == [
        *("system", "a-b", "A-b-2", "system-2", "con"),
    ]


def test_a_spreadsheet_computes_no_cell(tmp_path: Path) -> None:
    _, rows = hostile()
    write_table(tmp_path / "predictions.csv", rows)
    text = (tmp_path / "predictions.csv").read_text(encoding="utf-8")
    assert text.startswith('\ufeff"system","id","category",')
    lines = list(csv.reader(text.removeprefix("\ufeff").splitlines(keepends=True)))
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines) == len(rows) + 1
    numbers = {lines[0].index(key) for key in ("seconds", "new_tokens", "rougeL", "rouge1")}
    for line, row in zip(lines[1:], rows, strict=True):
        assert float(line[lines[0].index("rougeL")]) == row.scores["rougeL"]
        for place, cell in enumerate(line):
            assert place in numbers or not cell.startswith(FORMULA)
            assert "\x00" not in cell
            assert "\x1b" not in cell
    assert {line[1][:2] for line in lines[1:]} == {"'="}
