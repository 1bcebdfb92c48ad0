"""What a comparison measures beside the scores: suites, seeds, baselines, forgetting, draws."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tuner.evaluation.forgetting import general_texts
from tuner.evaluation.systems import find_systems
from tuner.tools.compare import main
from tuner.tools.report import main as report

Fit = Callable[..., Path]
FAST = ("--max_new_tokens", "6", "--latency", "0")
SHORT = ("--trainer.max_steps=4", "--optimizer.lr=0.02", "--data.test_size=0.3")


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    def call(*args: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["eval.py"])
        output = tmp_path / "compared"
        logs = ["--logs", str(tmp_path / "logs"), "--output", str(output)]
        assert main([*args, *logs]) == 0
        results = json.loads((output / "results.json").read_text(encoding="utf-8"))
        lines = (output / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        results["rows"] = [json.loads(line) for line in lines]
        return results

    return call


def of(rows: list[dict[str, Any]], system: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["system"] == system]


def test_seeds_of_a_recipe_are_a_spread_and_no_rivals(
    fit: Fit, evaluate: Callable[..., dict[str, Any]]
) -> None:
    for seed in (1, 2, 3):
        fit("--name=lora", f"--seed_everything={seed}", *SHORT)
    results = evaluate("lora@*", *FAST)
    runs = ["lora@0", "lora@1", "lora@2"]
    assert results["seeds"]["lora"]["runs"] == runs
    own = [results["systems"][run]["metrics"]["nll"] for run in runs]
    assert len(set(own)) == 3, "another seed is another run"
    spread = results["seeds"]["lora"]["metrics"]["nll"]
    assert spread == pytest.approx(
        {"mean": np.mean(own), "sd": np.std(own, ddof=1), "min": min(own), "max": max(own)}
    )
    assert [results["systems"][run]["seed"] for run in runs] == [1, 2, 3]
    pairs = {(one["a"], one["b"]) for one in results["comparisons"]}
    assert pairs == {(a, b) for a in ("base", "majority", "nearest") for b in runs}
    assert {one["family"] for one in results["comparisons"]} == {"primary", "secondary"}


def test_seeds_must_be_of_one_recipe(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fit("--name=lora", "--seed_everything=1", *SHORT)
    shutil.copytree(first, first.with_name("version_1"))
    logs = ["--logs", str(tmp_path / "logs"), *FAST]
    again = find_systems(["lora@*"], tmp_path / "logs", with_base=False)
    assert [system.name for system in again] == ["lora@1"], "the newest of each seed"
    file = first.with_name("version_1") / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["seed_everything"], config["optimizer"]["init_args"]["lr"] = 2, 0.5
    file.write_text(yaml.safe_dump(config))
    assert main(["lora@*", *logs]) == 2
    assert "lora@0 and lora@1 differ in optimizer" in capsys.readouterr().err
    assert main(["lora@7", *logs]) == 2
    assert "no run 'lora@7'" in capsys.readouterr().err
    rendering = first.with_name("version_1") / "adapter" / "prompt.json"
    rendering.write_text(rendering.read_text().replace("Chat", "Other"))
    assert main(["lora@0", "lora@1", *logs]) == 2
    assert "different renderings of prompts" in capsys.readouterr().err


def test_a_run_under_two_names_is_the_same_run(
    fit: Fit, evaluate: Callable[..., dict[str, Any]]
) -> None:
    run = fit("--name=lora", *SHORT)
    results = evaluate("lora", str(run), *FAST)
    names = ("lora", "lora/version_0")
    both = [one for one in results["comparisons"] if (one["a"], one["b"]) == names]
    assert {(one["delta"], one["p"], one["p_holm"]) for one in both} == {(0, 1, 1)}
    assert {tuple(one["ci95"]) for one in both} == {(0, 0)}


def test_baselines_answer_from_the_training_rows(
    fit: Fit, evaluate: Callable[..., dict[str, Any]]
) -> None:
    fit("--name=lora", *SHORT)
    results = evaluate("lora", "--few_shot", "1", *FAST)
    systems = results["systems"]
    assert list(systems) == ["base", "lora", "majority", "nearest", "few_shot"]
    assert [name for name, one in systems.items() if one["baseline"]] == [
        "majority",
        "nearest",
        "few_shot",
    ]
    assert systems["nearest"]["metrics"]["nll"] is None, "it has no likelihood"
    assert systems["nearest"]["metrics"]["rougeL"] is not None
    assert systems["few_shot"]["metrics"]["nll"] is not None
    replies = {row["prediction"] for row in of(results["rows"], "majority")}
    assert len(replies) == 1, "these rows have no categories"
    shown, bare = (of(results["rows"], name)[0]["prompt"] for name in ("few_shot", "base"))
    assert shown.endswith(bare)
    assert len(shown) > len(bare), "what stands before it is on record"


def test_forgetting_is_paired_by_text(fit: Fit, evaluate: Callable[..., dict[str, Any]]) -> None:
    fit("--name=lora", *SHORT)
    forgetting = evaluate("lora", *FAST)["forgetting"]
    assert forgetting["texts"] == len(general_texts())
    assert forgetting["systems"].keys() == {"base", "lora"}
    (change,) = forgetting["comparisons"]
    before, after = (forgetting["systems"][name]["metrics"] for name in ("base", "lora"))
    assert change["delta"] == pytest.approx(after - before)
    low, high = change["ci95"]
    assert low < change["delta"] < high
    wide = forgetting["systems"]["base"]["ci95"]
    assert high - low < wide[1] - wide[0], "differences of the same texts vary less"


def test_a_suite_brings_prompts_expectations_and_a_rubric(
    fit: Fit, evaluate: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    items = [
        {"id": "late", "prompt": "where is my order", "reference": "On its way."},
        {"id": "code", "prompt": "what is the door code", "expects": {"decline": "yes"}},
    ]
    suite = {"rubric": {"tone": "The reply is polite."}, "items": items}
    for item in items:
        item.setdefault("reference", "I cannot tell you that.")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(suite))
    run = fit("--name=lora", *SHORT)
    config = yaml.safe_load((run / "config.yaml").read_text())
    Path(config["data"]["source"]["init_args"]["path"]).unlink()  # not needed any more
    mine = str(tmp_path / "mine.yaml")
    results = evaluate("lora", "--suite", mine, "--baselines", "[]", *FAST)
    assert results["test_set"]["n"] == 2
    assert results["test_set"]["source"] == "suite mine"
    assert results["suite"]["rubric"] == {"tone": "The reply is polite."}
    assert "refusal_correct" in results["metric_info"]
    assert of(results["rows"], "lora")[1]["expects"] == {"decline": "yes"}
    assert of(results["rows"], "lora")[1]["question"] == "what is the door code"


def test_other_data_leaves_out_what_a_run_has_seen(
    fit: Fit, evaluate: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run = fit("--name=lora", *SHORT)
    path = Path(
        yaml.safe_load((run / "config.yaml").read_text())["data"]["source"]["init_args"]["path"]
    )
    card = json.loads((run / "data_card.json").read_text())
    new = [{"prompt": f"a new question {n}", "completion": f"reply {n}"} for n in range(5)]
    rows = path.read_text(encoding="utf-8") + "".join(json.dumps(row) + "\n" for row in new)
    (tmp_path / "more.jsonl").write_text(rows, encoding="utf-8")
    source = {"class_path": "Conversations", "init_args": {"path": str(tmp_path / "more.jsonl")}}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({"data": {"source": source}}))
    results = evaluate("lora", "--data", str(tmp_path / "more.yaml"), *FAST)
    trained = sum(card["splits"][split]["rows"] for split in ("train", "val"))
    assert results["test_set"]["left_out"] == trained
    assert results["test_set"]["n"] == card["splits"]["test"]["rows"] + len(new)


def test_drawn_replies_do_not_depend_on_the_batch(
    fit: Fit, evaluate: Callable[..., dict[str, Any]]
) -> None:
    fit("--name=lora", *SHORT)

    def replies(*more: str) -> list[str]:
        results = evaluate("lora", *FAST, "--temperature", "0.8", "--top_p", "0.9", *more)
        assert results["decoding"]["method"] == "sampling"
        return [row["prediction"] for row in results["rows"]]

    first = replies("--batch_size", "32")
    assert replies("--batch_size", "3") == first
    assert replies("--seed", "1") != first


def test_waiting_times_are_those_of_one_prompt_at_a_time(
    fit: Fit, evaluate: Callable[..., dict[str, Any]]
) -> None:
    fit("--name=lora", *SHORT)
    systems = evaluate("lora", "--max_new_tokens", "4", "--latency", "2")["systems"]
    assert systems["base"]["latency"]["alone"].keys() == {"model"}
    assert systems["lora"]["latency"]["alone"].keys() == {"adapter", "merged"}
    assert systems["lora"]["latency"]["alone"]["merged"]["prompts"] == 2
    assert systems["nearest"]["latency"]["alone"] == {}


def test_a_report_is_written_again_without_generating(
    fit: Fit,
    evaluate: Callable[..., dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit("--name=lora", *SHORT)
    evaluate("lora", *FAST)
    folder = tmp_path / "compared"
    before = {name: (folder / name).read_bytes() for name in ("results.json", "report.html")}
    for name in ("report.html", "report.md"):
        (folder / name).unlink()
    assert report([str(folder)]) == 0
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert report(["nothere", "--logs", str(tmp_path)]) == 2
    assert "nothere" in capsys.readouterr().err


def test_replies_beside_the_results_of_others_are_not_reported(
    fit: Fit,
    evaluate: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    fit("--name=lora", *SHORT)
    evaluate("lora", *FAST)
    folder = tmp_path / "compared"
    shorter = ["lora", "--max_new_tokens=3", "--latency=0", f"--output={folder}"]
    with monkeypatch.context() as patch:
        patch.setattr("tuner.evaluation.compare.write_reports", killed)
        assert main([*shorter, f"--logs={tmp_path / 'logs'}"]) == 130
    assert report([str(folder)]) == 2
    assert "Run eval.py again" in capsys.readouterr().err
    assert main([*shorter, f"--logs={tmp_path / 'logs'}"]) == 0
    assert report([str(folder)]) == 0
