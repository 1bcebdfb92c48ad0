"""A comparison from the command line to its files, recomputed with the reference packages."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch
from peft import PeftModel
from rouge_score.rouge_scorer import RougeScorer
from transformers import AutoModelForCausalLM, AutoTokenizer

from tuner.tools.compare import main


@pytest.fixture
def run(fit: Callable[..., Path]) -> Path:
    options = ["--trainer.max_steps=6", "--optimizer.lr=0.01", "--data.test_size=0.3"]
    return fit("--name=small", *options)


@pytest.fixture
def compare(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]:
    def call(*more: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        logs = run.parent.parent
        monkeypatch.setattr(sys, "argv", ["eval.py"])
        args = ["small", "--logs", str(logs), "--max_new_tokens", "12", *more]
        assert main(args) == 0
        folder = logs / "compare" / "small"
        lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        assert (folder / "report.md").stat().st_size > 500
        assert "<script" not in (folder / "report.html").read_text(encoding="utf-8")
        return json.loads((folder / "results.json").read_text()), [json.loads(x) for x in lines]

    return call


def test_results_are_recomputed_from_the_predictions(
    compare: Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]], run: Path
) -> None:
    results, rows = compare()
    card = json.loads((run / "data_card.json").read_text())
    assert results["test_set"]["n"] == card["splits"]["test"]["rows"]
    assert results["test_set"]["sha256"] == card["splits"]["test"]["sha256"]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name, system in results["systems"].items():
        own = [row for row in rows if row["system"] == name]
        assert len(own) == results["test_set"]["n"]
        predictions = [row["prediction"] for row in own]
        references = [row["reference"] for row in own]
        bleu = sacrebleu.corpus_bleu(predictions, [references]).score / 100
        assert system["metrics"]["bleu"] == pytest.approx(bleu, abs=1e-9)
        for key in ("rouge1", "rouge2", "rougeL"):
            values = [
                scorer.score(reference, prediction)[key].fmeasure
                for reference, prediction in zip(references, predictions, strict=True)
            ]
            assert system["metrics"][key] == pytest.approx(sum(values) / len(values), abs=1e-9)
    record = json.loads((run / "run.json").read_text())
    small = results["systems"]["small"]
    assert small["trainable_params"] == record["trainable_params"]
    assert small["base_sha256"] == record["weights_sha256"]
    file = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    assert small["trained_sha256"] == sha256(sha256(file).digest()).hexdigest()


def test_slices_by_what_training_has_seen_and_by_annotation(
    fit: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [
        {
            "prompt": f"{'Urgent: w' if n % 2 else 'W'}here is parcel {n % 30}{'!' * (n // 30)}",
            "completion": f"At door {n}.",
            "group": str(n),
        }
        for n in range(60)
    ]
    path = tmp_path / "leaky.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = fit(
        *("--name=leaky", "--trainer.max_steps=1", "--data.test_size=0.3"),
        *("--data.source=Conversations", f"--data.source.path={path}"),
        *("--data.curation.near_duplicates=keep", "--data.curation.allow=[leaks]"),
        "--data.curation.annotate=[priority,kind]",
    )
    leaks = json.loads((run / "data_card.json").read_text())["leak_check"]
    assert 0 < leaks["contaminated"] < leaks["test_rows"]
    logs = run.parent.parent
    assert main(["leaky", "--logs", str(logs), "--max_new_tokens", "2"]) == 0
    folder = logs / "compare" / "leaky"
    slices = json.loads((folder / "results.json").read_text())["slices"]
    counts = {(s["slice"], s["value"]): s["n"] for s in slices if s["system"] == "base"}
    assert counts["seen", "contaminated"] == leaks["contaminated"]
    assert counts["seen", "clean"] == leaks["test_rows"] - leaks["contaminated"]
    assert {value for name, value in counts if name == "priority"} == {"high", "low"}
    assert "kind" not in {name for name, _ in counts}, "all are of one kind"
    first = json.loads((folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["slices"].keys() == {"seen", "priority", "kind"}


def test_plain_peft_gives_the_same_replies(
    compare: Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]],
    run: Path,
    tiny_base: Path,
) -> None:
    _, rows = compare("--batch_size", "5")
    tokenizer = AutoTokenizer.from_pretrained(run / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(run / "adapter")).eval()
    for row in (row for row in rows if row["system"] == "small"):
        ids = tokenizer(row["prompt"], add_special_tokens=False, return_tensors="pt")
        out = model.generate(**ids, do_sample=False, max_new_tokens=12)
        reply = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert row["prediction"] == reply.strip()


def test_a_run_on_changed_data_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = json.loads((run / "data_card.json").read_text())
    card["splits"]["test"]["sha256"] = "0" * 64
    (run / "data_card.json").write_text(json.dumps(card))
    assert main(["small", "--logs", str(run.parent.parent)]) == 2
    assert "another test split" in capsys.readouterr().err


def test_mistakes_are_answered(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = str(run.parent.parent)
    for args, words in (
        (["smal"], "Did you mean 'small'"),
        (["small", "--metrics", "[rougel]"], "Did you mean 'rougeL'"),
        (["small", "--limt", "3"], "Did you mean 'limit'"),
        (["small", "small"], "named twice"),
        (["small", "--limit", "0"], "--limit"),
        (["small", "--data", "nothere.yaml"], "nothere.yaml"),
    ):
        assert main([*args, "--logs", logs]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error


def test_limit_draws_the_same_rows_again(
    compare: Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]],
) -> None:
    first, rows = compare("--limit", "3")
    second, again = compare("--limit", "3")
    assert first["test_set"] == second["test_set"]
    assert [row["id"] for row in rows] == [row["id"] for row in again]
    assert first["test_set"]["n"] == 3


def test_a_comparison_stays_in_its_folder_and_replies_in_the_context(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = run.parent.parent
    folder, away = logs / "compare" / "small", tmp_path / "away"
    args = ["small", f"--logs={logs}"]
    assert main([*args, "--max_new_tokens=512"]) == 2
    assert "has room for 512 tokens of prompt and reply" in capsys.readouterr().err
    (away / "tensorboard").mkdir(parents=True)
    folder.parent.symlink_to(away)
    assert main(args) == 2
    assert f"{folder.parent} is a link that leads out" in capsys.readouterr().err
    folder.parent.unlink()
    folder.parent.mkdir()
    folder.symlink_to(away)
    assert main(args) == 2
    assert f"{folder} is a link; remove it" in " ".join(capsys.readouterr().err.split())
    folder.unlink()
    folder.mkdir()
    (folder / "tensorboard").symlink_to(away / "tensorboard")
    assert main(args) == 2
    assert "tensorboard is a link" in capsys.readouterr().err
    assert [one.name for one in away.rglob("*")] == ["tensorboard"]
