"""`tuner plan` reads a configuration and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuner.tools.plan import main

ROOT = Path(__file__).parents[2]
RECIPES = sorted(p for p in (ROOT / "configs").glob("*.yaml") if p.name != "defaults.yaml")


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Plans for a base that is a configuration file alone."""
    config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "vocab_size": 512}
    config |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(sys, "argv", ["tuner"])
    monkeypatch.chdir(ROOT)

    def call(*options: str) -> tuple[int, str, str]:
        code = main([*options, f"--model.base={tmp_path}"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


QUICK = ("lora", "qlora")


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(p, id=p.stem, marks=[] if p.stem in QUICK else [pytest.mark.slow])
        for p in RECIPES
    ],
)
def test_every_recipe_can_be_planned(recipe: Path, run: Any) -> None:
    code, out, _ = run(f"--config={recipe}", "--device=A100-80GB", "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    assert found["peak"] == sum(found["parts"].values())
    assert found["fits"]
    assert found["largest_batch"] >= found["batch_size"]


def test_the_terminal_shows_parts_time_and_batch(run: Any) -> None:
    code, out, _ = run("--config=configs/lora.yaml", "--device=L4")
    assert code == 0
    for word in (
        "weights of the base",
        "optimiser's state",
        "logits",
        "peak",
        "tokens/s",
        "estimate",
    ):
        assert word in " ".join(out.split())
    code, out, _ = run("--config=configs/lora.yaml", "--device=0.6GB", "--data.batch_size=64")
    assert code == 0
    assert "does not fit" in out
    assert "--data.batch_size" in out


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--device=A100-80", "A100-80GB"),
        ("--trainer.precision=bf16-true", "trainer.precision"),
        ("--model.head=Full --model.quantize=nf4", "model.quantize"),
    ],
)
def test_mistakes(option: str, expected: str, run: Any) -> None:
    code, _, err = run("--config=configs/lora.yaml", *option.split())
    assert code == 2
    assert expected in err


def test_rows_beyond_the_context_are_refused(
    command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command("fit", "--data.max_length=600")[1:]) == 2
    assert "data.max_length: 600 positions are more than the 512" in capsys.readouterr().err
