"""The report of a sweep: numbers that can be worked out by hand, and text that stays text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.evaluation.seeds import mean_interval
from tuner.sweep.definition import Definition, Range
from tuner.sweep.findings import runs_table, sentences, settings_table
from tuner.sweep.plots import draw_plots
from tuner.sweep.report import write_report
from tuner.sweep.summary import summarise

SVG = "{http://www.w3.org/2000/svg}"
RANKS = ("4", "8", "16")
LOSSES = {"4": [2.0, 2.2, 2.4], "8": [1.9, 2.0, 2.1], "16": [1.0, None, 1.2]}


def trial(setting: str, seed: int, loss: float | None, message: str = "") -> FrozenTrial:
    result: dict[str, Any] = {
        "training_seconds": 10.0 * seed,
        "peak_memory_mib": 100.0 + seed,
        "trainable_params": 1000 * int(setting),
        "trainable_percent": 0.1,
        "steps": 7,
        "val_sha256": "a",
        "base": "pico",
        "host": "here",
        "run": f"logs/sweeps/ranks/r-{setting}/version_{seed}",
    }
    return create_trial(
        state=TrialState.FAIL if loss is None else TrialState.COMPLETE,
        value=loss,
        params={"model.head.r": setting},
        distributions={"model.head.r": CategoricalDistribution(RANKS)},
        user_attrs={
            "setting": f"r-{setting}", "seed": seed, "result": result, "message": message,
        },
    )  # fmt: skip


@pytest.fixture
def summed(define: Callable[..., Definition]) -> Callable[..., dict[str, Any]]:
    def call(message: str = "out of memory", **keys: Any) -> dict[str, Any]:
        definition = define(**{"over": {"model.head.r": RANKS}, "seeds": (1, 2, 3)} | keys)
        trials = [
            trial(rank, seed, loss, message if loss is None else "")
            for rank in RANKS
            for seed, loss in enumerate(LOSSES[rank], start=1)
        ]
        return summarise("ranks", definition, trials)

    return call


def test_an_interval_of_a_mean_is_students() -> None:
    # t of 0.975 with 2 degrees of freedom is 4.302653; sd 0.1, so 4.302653 * 0.1 / sqrt(3)
    assert mean_interval([1.9, 2.0, 2.1]) == pytest.approx([1.751586, 2.248414], abs=1e-6)
    assert mean_interval([1.0]) is None
    assert mean_interval([1.0, 1.0]) is None


def test_settings_stand_in_the_order_of_their_means_and_the_incomplete_last(summed: Any) -> None:
    results = summed(compare=2)
    assert [one["name"] for one in results["settings"]] == ["r-8", "r-4", "r-16"]
    first, _, last = results["settings"]
    assert first["val_loss"]["mean"] == pytest.approx(2.0)
    assert first["val_loss"]["sd"] == pytest.approx(0.1)
    assert first["costs"] == {
        "training_seconds": 20.0,
        "peak_memory_mib": 103.0,
        "trainable_params": 8000.0,
        "trainable_percent": pytest.approx(0.1),
    }
    assert last["val_loss"] is None  # two good runs of three: their mean would flatter it
    assert results["chosen"] == ["r-8", "r-4"]
    # Paired by seed: 0.1, 0.2, 0.3.
    assert results["lead"]["over"] == "r-4"
    assert results["lead"]["delta"] == pytest.approx(0.2)
    assert results["lead"]["ci95"] == pytest.approx([-0.048414, 0.448414], abs=1e-6)


def test_the_findings_are_said_in_words(summed: Any) -> None:
    text = "\n".join(sentence.text for sentence in sentences(summed()))
    assert "r-8 (model.head.r 8) has the lowest validation loss: 2.000 nats a token" in text
    assert "95 % interval 1.752 to 2.248" in text
    assert "not clearly ahead of the next, r-4" in text
    assert "1 failed" in text
    assert "validation splits differ" not in text
    results = summed()
    results["val_sets"] = ["a", "b"]
    assert "The validation splits differ" in "\n".join(s.text for s in sentences(results))


def test_one_seed_has_no_interval_and_says_so(define: Any) -> None:
    definition = define(over={"model.head.r": ("4", "8")}, seeds=(1,))
    results = summarise("ranks", definition, [trial("4", 1, 2.0), trial("8", 1, 1.0)])
    assert results["settings"][0]["val_loss"] == {"mean": 1.0, "sd": None, "ci95": None}
    text = "\n".join(sentence.text for sentence in sentences(results))
    assert "One seed a setting" in text
    assert "not clearly ahead" in text


def test_seeds_that_change_nothing_make_no_interval(define: Any) -> None:
    definition = define(over={"model.head.r": ("4", "8")}, seeds=(1, 2))
    trials = [trial(rank, seed, 8 / int(rank)) for rank in ("4", "8") for seed in (1, 2)]
    results = summarise("ranks", definition, trials)
    assert results["settings"][0]["val_loss"] == {"mean": 1.0, "sd": 0.0, "ci95": None}
    text = "\n".join(sentence.text for sentence in sentences(results))
    assert "Runs of other seeds are the same" in text
    assert "not clearly ahead" in text


def test_nothing_done_is_a_report_as_well(define: Any, tmp_path: Path) -> None:
    definition = define(over={"model.head.r": ("4",)}, seeds=(1,))
    results = summarise("ranks", definition, [trial("4", 1, None)])
    assert results["chosen"] == []
    write_report(tmp_path, results, "tuner sweep x.yaml")
    assert "No setting has finished" in (tmp_path / "report.md").read_text()


def test_tables_have_a_row_for_each_setting_and_each_run(summed: Any) -> None:
    table = settings_table(summed())
    assert [row[0].text for row in table.rows] == ["r-8", "r-4", "r-16"]
    assert [row[0].note for row in table.rows] == ["chosen", "", ""]
    assert table.rows[0][3].text == "2.000"
    assert table.rows[0][3].note == "1.752 to 2.248"
    assert table.rows[2][2].text == "2 of 3"
    runs = runs_table(summed())
    assert len(runs.rows) == 9
    assert any(cell.text == "out of memory" for row in runs.rows for cell in row)
    for shown in (table, runs):
        assert all(len(row) == len(shown.head) for row in shown.rows)


def test_quality_is_drawn_against_what_it_cost(summed: Any) -> None:
    plots = {plot.title: str(plot.svg) for plot in draw_plots(summed())}
    # All settings took the same time and memory: there is no trade-off to show.
    assert list(plots) == ["Quality against trained parameters"]
    drawn = plots["Quality against trained parameters"]
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert "r-8" in drawn
    assert "r-16" not in drawn


def test_what_a_search_drew_is_told_apart_by_its_value(define: Any) -> None:
    rates = (1e-4, 1.1e-4, 3e-2)
    over = {"optimizer.lr": Range(low=1e-4, high=3e-2, log=True)}
    trials = [
        create_trial(
            value=1.0 + number,
            params={"optimizer.lr": rate},
            distributions={"optimizer.lr": FloatDistribution(1e-4, 3e-2, log=True)},
            user_attrs={"setting": f"setting-{number:03}", "seed": 1},
        )
        for number, rate in enumerate(rates)
    ]
    results = summarise("rates", define(over=over, trials=3, seeds=(1,)), trials)
    (plot,) = draw_plots(results)
    words = [text.text for text in ElementTree.fromstring(str(plot.svg)).iter(f"{SVG}text")]
    assert {"0.0001", "0.001", "0.01"} < set(words)
    # The names of settings that are near each other would cover each other.
    assert [word for word in words if word and "setting" in word] == ["setting-000"]


def test_what_people_and_runs_wrote_stays_text(summed: Any, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script> | [a](http://x) `b`"
    write_report(tmp_path, summed(message=hostile), "tuner sweep '<b>.yaml'")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<b>.yaml" not in page
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "[a](http" not in text
    assert "No comparison was made." in text
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert found["command"] == "tuner sweep '<b>.yaml'"
