"""What is rated: drawn once, and known by its texts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from comparisons import SYSTEMS, begin, write_comparison

from tuner.errors import UserError
from tuner.evaluation.predictions import read_predictions, write_predictions
from tuner.rating.study import (
    OVERALL,
    RUBRIC,
    draw_study,
    find_comparison,
    read_answers,
    read_rubric,
    still_fits,
)


def test_a_comparison_is_found_by_name_and_path(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "compare" / "lora")
    assert find_comparison("lora", tmp_path) == folder
    assert find_comparison(str(folder), tmp_path / "nothere") == folder
    with pytest.raises(UserError, match=r"Did you mean 'lora'\?"):
        find_comparison("lore", tmp_path)


def test_the_suite_brings_its_rubric(tmp_path: Path) -> None:
    assert list(read_rubric(write_comparison(tmp_path / "a"))) == [*RUBRIC, OVERALL]
    own = {"overall": "All of it?", "formality": "Formal?"}
    rubric = read_rubric(write_comparison(tmp_path / "b", rubric=own))
    assert rubric == {"formality": "Formal?", "overall": "All of it?"}
    assert list(rubric)[-1] == OVERALL
    (tmp_path / "b" / "results.json").write_text('{"schema": 1, "suite": {"rubric": ["tone"]}}')
    with pytest.raises(UserError, match=r"suite\.rubric"):
        read_rubric(tmp_path / "b")


def test_the_draw_depends_on_the_seed_alone(tmp_path: Path) -> None:
    answers = read_answers(write_comparison(tmp_path, count=50))
    drawn = draw_study(answers, RUBRIC, items=10, seed=3)
    assert len(drawn.items) == 10
    assert drawn == draw_study(answers, RUBRIC, items=10, seed=3)
    assert drawn.items != draw_study(answers, RUBRIC, items=10, seed=4).items


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"systems": ["s0", "s9"]}, "no answers of 's9'"),
        ({}, "5 systems cannot be rated side by side"),
        ({"systems": ["s0"]}, "1 systems cannot"),
        ({"systems": ["s0", "s1"], "items": 7}, "--items: 7 is more than the 6"),
        ({"systems": ["s0", "s1"], "repeats": 7}, "--repeats: 7"),
    ],
)
def test_what_cannot_be_rated(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    answers = read_answers(write_comparison(tmp_path, systems=[f"s{n}" for n in range(5)]))
    with pytest.raises(UserError, match=message):
        draw_study(answers, RUBRIC, **options)


def test_scored_again_is_the_same_and_answered_again_is_not(tmp_path: Path) -> None:
    study, _ = begin(write_comparison(tmp_path), items=4)
    rows = read_predictions(tmp_path / "predictions.jsonl")

    def fits(field: str, value: object, item: str) -> bool:
        changed = [dataclasses.replace(r, **{field: value}) if r.id == item else r for r in rows]
        write_predictions(tmp_path / "predictions.jsonl", changed)
        return still_fits(study, read_answers(tmp_path))

    left_out = next(row.id for row in rows if row.id not in study.items)
    assert fits("scores", {"new": 1.0}, study.items[0])
    assert fits("prediction", "another text", left_out)
    assert not fits("prediction", "another text", study.items[0])
    assert not fits("question", "another question", study.items[0])
    write_predictions(tmp_path / "predictions.jsonl", [r for r in rows if r.system == SYSTEMS[0]])
    assert not still_fits(study, read_answers(tmp_path))


def test_a_row_that_is_there_twice(tmp_path: Path) -> None:
    file = write_comparison(tmp_path) / "predictions.jsonl"
    file.write_text(file.read_text() + file.read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError, match="two rows"):
        read_answers(tmp_path)
