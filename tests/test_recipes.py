"""Every recipe runs as its head says, and trains the share of parameters that was published."""

from __future__ import annotations

import importlib
import json
import math
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from published import write_sets
from transformers import AutoModelForCausalLM, LlamaConfig

from tuner.backbone import load_base
from tuner.cli import main
from tuner.evaluation.suite import load_suite
from tuner.tools.options import FitOptions

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "configs" / "recipes").glob("*.yaml"))
SUPPORT = [recipe for recipe in RECIPES if recipe.stem.startswith("support_")]

every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["train.py"])


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """benchmarks/recipes.py as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("recipes")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A small file for each source that reads a published set."""
    return write_sets(tmp_path_factory.mktemp("sets"))


def tinyllama() -> Any:
    """TinyLlama-1.1B in shape, without content."""
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config).requires_grad_(False)


@pytest.mark.parametrize("recipe", SUPPORT, ids=lambda recipe: recipe.stem)
def test_trains_the_published_share_of_tinyllama(recipe: Path, benchmark: Any) -> None:
    stated = re.search(r"([\d.]+) % trained", benchmark.published(recipe))
    assert stated
    head = FitOptions(["fit", f"--config={recipe}", "--trainer.accelerator=cpu"]).model.head
    base = tinyllama()
    assert base.num_parameters() == 1_100_048_384
    with torch.device("meta"):
        model: Any = head.outline().apply(base)
    trained, every = model.get_nb_trainable_parameters()  # as peft counts them
    assert f"{100 * trained / every:.4f}" == stated[1]


def test_four_recipes_have_a_published_share() -> None:
    assert len(SUPPORT) == 4


@every_recipe
def test_runs_on_pico(recipe: Path, benchmark: Any, sets: dict[str, str], tmp_path: Path) -> None:
    options = benchmark.fit_options(recipe, "pico", sets, rows=40, steps=2)
    limits = ["--data.val_size=0.2", "--data.test_size=0.2", "--data.batch_size=2"]
    limits += ["--trainer.limit_val_batches=2"]
    hidden = [f"--trainer.default_root_dir={tmp_path}", f"--data.cache_dir={tmp_path}/cache"]
    assert main(["fit", *options, *limits, *hidden, "--trainer.enable_progress_bar=false"]) == 0
    run = tmp_path / recipe.stem / "version_0"
    record = json.loads((run / "run.json").read_text())
    said = yaml.safe_load(recipe.read_text())["model"]
    assert (record["status"], record["steps"]) == ("finished", 2)
    assert record["quantize"] == said.get("quantize")
    assert math.isfinite(record["best"]["val_loss"])
    if recipe in SUPPORT:  # quantised weights are counted as what they stand for
        base = load_base("pico")
        assert record["total_params"] == base.num_parameters() + record["trainable_params"]


@every_recipe
def test_the_head_names_commands_that_exist(recipe: Path, benchmark: Any) -> None:
    (fit,) = benchmark.commands(recipe, "train.py")
    assert fit[:3] == ["fit", "--config", f"configs/recipes/{recipe.name}"]
    evaluations = benchmark.commands(recipe, "eval.py")
    assert evaluations[0] == [recipe.stem]
    compare: Any = importlib.import_module("tuner.tools.compare")
    for options in evaluations:
        parsed = compare._parser().parse_args(options)
        assert parsed.runs == [recipe.stem]
        assert not parsed.suite or load_suite(parsed.suite).examples
        assert not parsed.data or parsed.data.is_file()


def test_another_comparison_reads_the_local_file(
    benchmark: Any, sets: dict[str, str], tmp_path: Path
) -> None:
    """MedQuAD's questions for a run on Bitext's intents, with the rendering of the run."""
    from tuner.evaluation.testset import load_data

    recipe = ROOT / "configs/recipes/bitext_intent.yaml"
    _, options = benchmark.commands(recipe, "eval.py")
    given = benchmark.with_file(options, sets, tmp_path)
    assert given[given.index("--limit") + 1] == "500"
    own = {**yaml.safe_load(recipe.read_text())["data"]}
    data = load_data(own, Path(given[given.index("--data") + 1]))
    assert type(data.source).__name__ == "MedQuAD"
    assert data.source.path == sets["MedQuAD"]
    assert type(data.prompt).__name__ == "QueryIntent"


def test_shown_commands_hold_no_folder(benchmark: Any) -> None:
    files = {"Dolly": "/some/where/dolly.jsonl", "MedQuAD": "/else where/medquad.csv"}

    def shown(name: str) -> list[str]:
        recipe = ROOT / "configs" / "recipes" / f"{name}.yaml"
        options = benchmark.fit_options(recipe, "pico", files, rows=2000, steps=40)
        return shlex.split(benchmark.shown(["train.py", "fit", *options], files))

    assert shown("formal_email") == shlex.split(
        "python train.py fit --config configs/recipes/formal_email.yaml --model.base pico "
        "--data.source.path dolly.jsonl --data.source.limit 2000 --trainer.max_steps 40 "
        "--samples.count 0"
    )
    parts = json.loads(next(word for word in shown("pico") if word.startswith("[")))
    assert [part["init_args"]["path"] for part in parts] == ["dolly.jsonl", "medquad.csv"]


def test_a_limit_is_never_raised(benchmark: Any) -> None:
    source = {"class_path": "TwitterSupport", "init_args": {"path": "twcs.csv", "limit": 500}}
    assert benchmark.data_options(source, {}, rows=2000) == ["--data.source.limit", "500"]
    assert benchmark.data_options(source, {}, rows=40) == ["--data.source.limit", "40"]
    assert benchmark.data_options("Dolly", {}, rows=40) == ["--data.source.limit", "40"]
    shipped = {"class_path": "Conversations", "init_args": {"path": "data/samples/faq.jsonl"}}
    assert benchmark.data_options(shipped, {}, rows=40) == []


def test_what_has_a_result_is_not_run_again(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    results = tmp_path / "recipes"
    results.mkdir()
    (results / "faq.json").write_text("{}")
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "result", lambda recipe, *_: {"recipe": recipe.stem})
    monkeypatch.setattr(benchmark, "write", lambda name, found: ran.append(name))

    def call(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["recipes.py", *words])
        benchmark.main()

    call("faq", "headlines")
    assert ran == ["recipes/headlines"]
    call("faq", "--again")
    assert ran == ["recipes/headlines", "recipes/faq"]
    ran.clear()
    call()
    assert ran == [f"recipes/{recipe.stem}" for recipe in RECIPES if recipe.stem != "faq"]
    with pytest.raises(SystemExit):
        call("fraq")


@pytest.mark.slow
def test_the_benchmark_writes_a_result(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = write_sets(tmp_path, count=600)  # of MedQuAD, 500 are held out
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr(importlib.import_module("measure"), "RESULTS", tmp_path)
    data = [f"{name}={file}" for name, file in sets.items()]
    words = ["bitext_intent", "--steps=2", "--rows=40", "--test_rows=4", "--new_tokens=4", "--data"]
    monkeypatch.setattr(sys, "argv", ["recipes.py", *words, *data])
    benchmark.main()
    text = (tmp_path / "recipes" / "bitext_intent.json").read_text()
    assert str(tmp_path) not in text
    assert not any(file in text for file in sets.values())
    found = json.loads(text)
    assert [one["source"] for one in found["evaluations"]] == ["Bitext", "MedQuAD"]
    assert found["evaluations"][0]["n"] == 4
    low, high = found["evaluations"][1]["tuned"]["rouge1"]["ci95"]
    assert 0 <= low <= high <= 1
