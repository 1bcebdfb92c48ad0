"""results.json: its contract, its numbers and what it refuses."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.errors import UserError
from tuner.evaluation.metric import select_metrics
from tuner.evaluation.metrics.rouge import Rouge
from tuner.evaluation.predictions import (
    Prediction,
    read_predictions,
    write_atomically,
    write_predictions,
)
from tuner.evaluation.results import Setting, build_results, write_results
from tuner.evaluation.score import Scored, applicable, score

REFERENCE = "one two three four"
ROUGE = select_metrics(["rouge1", "rougeL"])


def row(system: str, name: str, text: str, **fields: Any) -> Prediction:
    defaults: dict[str, Any] = {
        "category": "a",
        "prompt": f"<|user|>\n{name}",
        "reference": REFERENCE,
        "stop_reason": "eos",
        "new_tokens": 4,
        "seconds": 0.5,
    }
    return Prediction(system=system, id=name, prediction=text, **(defaults | fields))


def setting(*systems: str, n: int) -> Setting:
    described = {
        "base": "pico",
        "head": "LoRA",
        "trainable_params": 8,
        "trainable_percent": 0.5,
        "batch_size": 2,
        "recipe": "",
        "seed": None,
        "baseline": False,
    }
    return Setting(
        test_set={"n": n, "sha256": "ab" * 32, "source": "samples"},
        systems=dict.fromkeys(systems, described),
        decoding={"max_new_tokens": 16},
        seed=3,
        command="python eval.py lora",
        environment={"python": "3.11"},
    )


@pytest.fixture
def rows() -> list[Prediction]:
    """Twelve examples: base finds half of each reference, lora all of it, qlora misses three."""
    names = [f"e{index:02}" for index in range(12)]
    found = [row("base", name, "one two x y", category="ab"[i % 2]) for i, name in enumerate(names)]
    found += [row("lora", name, REFERENCE, category="ab"[i % 2]) for i, name in enumerate(names)]
    found += [
        row("qlora", name, "" if i in (9, 2, 5) else REFERENCE, category="ab"[i % 2])
        for i, name in enumerate(names)
    ]
    return found


def results(rows: list[Prediction], **options: Any) -> dict[str, Any]:
    scored = score(rows, options.pop("metrics", ROUGE))
    systems = setting(*scored.systems, n=len(scored.groups))
    return build_results(scored, systems, resamples=options.pop("resamples", 500), **options)


def test_keys_are_those_of_the_contract(rows: list[Prediction]) -> None:
    found = results(rows)
    contract = {"schema", "command", "environment", "decoding", "seed", "test_set", "systems"}
    contract |= {"comparisons", "categories", "worst", "human"}
    assert contract <= found.keys()
    assert found["schema"] == 1
    assert found["human"] is None
    assert found["primary_metric"] == "rougeL"
    assert found["systems"]["lora"].keys() == {
        "base", "head", "trainable_params", "trainable_percent", "metrics", "ci95", "signatures",
        "latency", "stops", "recipe", "seed", "baseline",
    }  # fmt: skip
    assert found["systems"]["lora"]["latency"].keys() == {
        "seconds_per_example", "p50", "p95", "new_tokens_per_second", "batch_size",
    }  # fmt: skip
    assert found["comparisons"][0].keys() == {
        "a", "b", "metric", "family", "delta", "ci95", "ci95_percentile", "p", "p_holm",
        "detectable", "n",
    }  # fmt: skip
    assert found["categories"][0].keys() == {"category", "n", "system", "metrics", "ci95"}
    assert found["worst"][0].keys() == {"system", "metric", "id", "value"}


def test_values_by_hand(rows: list[Prediction]) -> None:
    found = results(rows)
    assert found["systems"]["base"]["metrics"] == {"rouge1": 0.5, "rougeL": 0.5}
    assert found["systems"]["base"]["ci95"]["rougeL"] == [0.5, 0.5]
    assert found["systems"]["lora"]["metrics"]["rougeL"] == 1
    assert found["systems"]["qlora"]["metrics"]["rougeL"] == 0.75
    low, high = found["systems"]["qlora"]["ci95"]["rougeL"]
    assert 0.4 < low < 0.75 < high <= 1


def test_comparisons_cover_every_pair_with_the_base_first(rows: list[Prediction]) -> None:
    found = {(one["a"], one["b"], one["metric"]): one for one in results(rows)["comparisons"]}
    pairs = [("base", "lora"), ("base", "qlora"), ("lora", "qlora")]
    assert list(found) == [(a, b, key) for a, b in pairs for key in ("rouge1", "rougeL")]
    up = found["base", "lora", "rougeL"]
    assert up["delta"] == 0.5
    assert up["ci95"] == [0.5, 0.5]
    assert up["p"] == pytest.approx(1 / 501, abs=0.004)
    assert up["family"] == "primary"
    assert up["p_holm"] == pytest.approx(3 * up["p"]), "adjusted for the pairs under rougeL alone"
    assert found["base", "lora", "rouge1"]["family"] == "secondary"
    assert up["n"] == 12
    down = found["lora", "qlora", "rougeL"]
    assert down["delta"] == -0.25
    assert down["p"] == pytest.approx(0.25, abs=0.08)  # 2 of 2^3 sign patterns are as extreme


def test_a_system_does_not_differ_from_itself() -> None:
    texts = ["one two", "one 7 three", "two", "four three two one", "one 2 3 four five"] * 11
    same = [
        row(system, f"e{index:02}", text)
        for system in ("base", "lora", "qlora")
        for index, text in enumerate(texts)
    ]
    metrics = applicable(select_metrics(), same)
    for comparison in results(same, metrics=metrics)["comparisons"]:
        assert comparison["delta"] == 0
        assert comparison["ci95"] == [0, 0]
        assert comparison["p"] == comparison["p_holm"] == 1


def test_results_depend_on_seed_and_rows_only(rows: list[Prediction]) -> None:
    assert results(rows) == results(rows)
    shuffled = rows[:12][::-1] + rows[24:] + rows[12:24]
    again = results(shuffled)
    assert again["systems"]["qlora"]["metrics"] == results(rows)["systems"]["qlora"]["metrics"]
    assert again["worst"] != []


def test_rows_carry_their_own_scores(rows: list[Prediction]) -> None:
    scored = score(rows, ROUGE)
    assert [one.id for one in scored.predictions] == [one.id for one in rows]
    assert scored.predictions[0].scores == {"rouge1": 0.5, "rougeL": 0.5}
    assert scored.predictions[24 + 2].scores["rougeL"] == 0


def test_categories_have_their_own_values(rows: list[Prediction]) -> None:
    found = {(one["category"], one["system"]): one for one in results(rows)["categories"]}
    assert found.keys() == {(c, s) for c in "ab" for s in ("base", "lora", "qlora")}
    assert found["a", "qlora"]["n"] == 6
    assert found["a", "qlora"]["metrics"]["rougeL"] == pytest.approx(5 / 6)
    assert found["b", "qlora"]["metrics"]["rougeL"] == pytest.approx(4 / 6)
    assert found["b", "lora"]["ci95"]["rougeL"] == [1, 1]


def test_slices_have_their_own_values(rows: list[Prediction]) -> None:
    marked = [
        replace(row, slices={"seen": "ab"[row.id == "e02"], "intent": row.id, "kind": "question"})
        for row in rows
    ]
    found = results(marked)["slices"]
    assert {one["slice"] for one in found} == {"seen", "intent"}, "kind parts nothing"
    (lost,) = [one for one in found if (one["value"], one["system"]) == ("b", "qlora")]
    assert (lost["n"], lost["metrics"]["rougeL"]) == (1, 0)
    assert results(marked)["categories"] == results(rows)["categories"]
    part = [row for row in marked if row.slices["seen"] == "a"]
    alone = results(part)["systems"]["qlora"]
    (rest,) = [one for one in found if (one["value"], one["system"]) == ("a", "qlora")]
    assert rest["metrics"] == alone["metrics"]
    assert rest["ci95"] == alone["ci95"]


def test_a_name_for_each_example_is_no_slice(rows: list[Prediction]) -> None:
    many = [replace(rows[0], id=f"e{n}", slices={"part": str(n)}) for n in range(51)]
    assert results(many)["slices"] == []
    assert len(results(many[:50])["slices"]) == 50


def test_worst_are_the_lowest_with_ties_by_id(rows: list[Prediction]) -> None:
    worst = results(rows[::-1])["worst"]
    assert {one["metric"] for one in worst} == {"rouge1", "rougeL"}
    worst = [one for one in worst if one["metric"] == "rougeL"]
    assert [one["id"] for one in worst if one["system"] == "qlora"] == [
        "e02", "e05", "e09", "e00", "e01",
    ]  # fmt: skip
    assert {one["system"] for one in worst} == {"lora", "qlora"}


def test_worst_are_the_highest_where_lower_is_better(
    rows: list[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rouge, "higher_is_better", False)
    found = results(rows)
    found["worst"] = [one for one in found["worst"] if one["metric"] == "rougeL"]
    assert found["metric_info"]["rougeL"]["higher_is_better"] is False
    worst = [one for one in found["worst"] if one["system"] == "qlora"]
    assert [one["value"] for one in worst] == [1] * 5


def test_latency_and_stops_by_hand() -> None:
    rows = [
        row("lora", "a", "", stop_reason="empty", new_tokens=0, seconds=0.1),
        row("lora", "b", "x", stop_reason="length", new_tokens=16, seconds=0.9),
        row("lora", "c", "x", stop_reason="eos", new_tokens=4, seconds=0.2),
        row("lora", "d", "x", stop_reason="eos", new_tokens=4, seconds=0.4),
    ]
    found = results(rows)["systems"]["lora"]
    assert found["stops"] == {"eos": 0.5, "length": 0.25, "empty": 0.25}
    assert found["latency"] == pytest.approx(
        {
            "seconds_per_example": 0.4,
            "p50": 0.3,
            "p95": 0.9 - 0.15 * 0.5,
            "new_tokens_per_second": 15,
            "batch_size": 2,
        }
    )


def test_without_a_base_only_the_others_are_compared(rows: list[Prediction]) -> None:
    found = results(rows[12:])
    assert found["base"] is None
    assert {(one["a"], one["b"]) for one in found["comparisons"]} == {("lora", "qlora")}
    named = results(rows, base="qlora")
    assert named["base"] == "qlora"
    assert {one["a"] for one in named["comparisons"]} == {"qlora", "base"}


def test_texts_without_metrics_still_make_results(rows: list[Prediction]) -> None:
    blank = [replace(one, reference="") for one in rows]
    found = results(blank, metrics={})
    assert found["primary_metric"] is None
    assert found["comparisons"] == found["worst"] == []
    assert found["systems"]["base"]["metrics"] == {}


def test_examples_of_a_group_are_resampled_together_unless_told_otherwise(
    rows: list[Prediction],
) -> None:
    grouped = [replace(one, group=f"g{index % 12 // 4}") for index, one in enumerate(rows)]
    found = results(grouped)
    assert found["resampling"]["units"] == 3
    assert found["test_set"]["n"] == found["comparisons"][0]["n"] == 12
    alone = score(grouped, ROUGE, clustered=False)
    ungrouped = build_results(alone, setting(*alone.systems, n=12), resamples=50)
    assert ungrouped["resampling"]["units"] == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "'base' and 'qlora' did not answer the same examples: 1 ids.*e11"),
        (lambda rows: [*rows, rows[0]], "two predictions for id 'e00'"),
        (
            lambda rows: [*rows[:-1], replace(rows[-1], reference="x")],
            "different references for id 'e11'",
        ),
        (lambda rows: [], "no predictions"),
    ],
)
def test_systems_that_cannot_be_paired_are_refused(
    rows: list[Prediction], change: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score(change(rows), ROUGE)


def test_examples_without_a_reference_are_refused(rows: list[Prediction]) -> None:
    with pytest.raises(UserError, match="12 of 12 examples have no reference"):
        score([replace(one, reference=" ") for one in rows], ROUGE)


def test_a_metric_without_a_finite_value_is_refused(
    rows: list[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = Rouge().score(rows[:12])
    broken = {key: replace(one, rows=one.rows / 0) for key, one in scores.items()}
    monkeypatch.setattr(Rouge, "score", lambda *_: broken)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"rouge1.*a finite value"):
        score(rows, ROUGE)


@pytest.fixture
def scored(rows: list[Prediction]) -> Scored:
    return score(rows, ROUGE)


@pytest.mark.parametrize(
    ("systems", "n", "options", "message"),
    [
        (("base", "lora"), 12, {}, "the systems described are"),
        (("base", "lora", "qlora"), 13, {}, "13 examples, the predictions cover 12"),
        (("base", "lora", "qlora"), 12, {"base": "bse"}, "base 'bse' is not among"),
        (("base", "lora", "qlora"), 12, {"primary": "bleu"}, "primary metric 'bleu'"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(
    scored: Scored, systems: tuple[str, ...], n: int, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_results(scored, setting(*systems, n=n), **options)


def test_results_survive_the_file(tmp_path: Path, rows: list[Prediction]) -> None:
    found = results(rows)
    write_results(tmp_path / "results.json", found)
    assert json.loads((tmp_path / "results.json").read_text()) == found
    with pytest.raises(ValueError, match="JSON"):
        write_results(tmp_path / "results.json", {"seed": float("nan")})
    assert json.loads((tmp_path / "results.json").read_text()) == found


def test_predictions_survive_the_file(tmp_path: Path) -> None:
    nasty = 'a\u2028b\x85c\r\n"\\ \x00 \ud800 é 中 😀'
    rows = [row("base", "a", nasty, scores={"bleu": 0.1}, group="g"), row("lora", "b", "")]
    write_predictions(tmp_path / "p.jsonl", rows)
    assert read_predictions(tmp_path / "p.jsonl") == rows
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]


@pytest.mark.parametrize("line", ['{"system": "x"}', "[1]", "{", '{"stop_reason": "eos"}'])
def test_a_broken_row_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, [row("base", "a", "x")])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"p\.jsonl:2 is not a prediction"):
        read_predictions(path)


def test_unknown_stop_reasons_are_refused() -> None:
    with pytest.raises(ValueError, match="allowed: eos, length, empty"):
        row("base", "a", "x", stop_reason="timeout")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.md"
    write_atomically(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_goes_with_the_next_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    killed = """
import os, signal, sys
from pathlib import Path
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
from tuner.evaluation.predictions import write_atomically
write_atomically(Path(sys.argv[1]), "half")
"""
    done = subprocess.run([sys.executable, "-c", killed, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    alive = tmp_path / f".results.json.{socket.gethostname()}.{os.getppid()}.tmp"
    alive.touch()
    write_atomically(path, "whole")
    assert {*tmp_path.iterdir()} == {path, alive}


def test_rows_without_a_value_for_one_system_count_for_none() -> None:
    """Else the difference would be one of rows, not of systems."""
    same = [10.0] * 6 + [40.0] * 6
    rows = [
        row(system, f"e{n:02}", "x", reference_nll=nll, reference_tokens=1)
        for system in ("base", "lora")
        for n, nll in enumerate(same)
    ]
    rows[20:24] = [replace(one, reference_nll=None) for one in rows[20:24]]
    silent = [row("nearest", f"e{n:02}", "x") for n in range(12)]
    found = results([*rows, *silent], metrics=select_metrics(["nll"]))
    assert found["systems"]["base"]["metrics"]["nll"] == (6 * 10 + 2 * 40) / 8
    assert found["systems"]["nearest"]["metrics"]["nll"] is None
    (change,) = [one for one in found["comparisons"] if one["b"] == "lora"]
    assert (change["delta"], change["p"], change["n"]) == (0, 1, 8)
