"""The YAML of a sweep says which runs there are; what does not fit is refused with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuner.errors import UserError
from tuner.sweep.definition import Definition, Range, brief
from tuner.sweep.reading import read_definition

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Definition]:
    """Reads a sweep of these keys, beside a recipe that is there."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {base: pico}\n")

    def call(instead: dict[str, Any] | None = None, more: Any = (), **keys: Any) -> Definition:
        file = tmp_path / "sweep.yaml"
        content = {"config": str(recipe), "over": {"model.head.r": [4, 8]}} | keys
        file.write_text(yaml.safe_dump({k: v for k, v in content.items() if v != "absent"}))
        return read_definition(file, instead or {}, more)

    return call


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_shipped_sweeps_say_how_to_run_them(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = file.read_text(encoding="utf-8")
    assert text.startswith("#")
    assert f"tuner sweep configs/sweeps/{file.name}" in text
    definition = read_definition(file, {})
    assert definition.described()["config"]
    assert len(definition.samples()) > 1


def test_a_grid_is_every_combination_with_values_as_on_the_command_line(read: Any) -> None:
    definition = read(
        over={
            "model.quantize": [None, "nf4"],
            "model.head.r": [4, 8],
            "model.head.target_modules": [["q_proj", "v_proj"]],
            "optimizer.lr": [0.0002, 1e-05],
        },
        options={"trainer.max_epochs": 2, "model.gradient_checkpointing": True},
        more=("--data.limit", "7"),
    )
    grid = definition.grid()
    assert len(grid) == 8
    assert grid[0] == {
        "model.quantize": "null",
        "model.head.r": "4",
        "model.head.target_modules": '["q_proj", "v_proj"]',
        "optimizer.lr": "0.0002",
    }
    assert [one["optimizer.lr"] for one in grid[:2]] == ["0.0002", "1e-05"]
    arguments = definition.arguments(grid[-1])
    assert arguments[0] == "fit"
    assert arguments[1].startswith("--config=")
    assert "--trainer.max_epochs=2" in arguments
    assert "--model.gradient_checkpointing=true" in arguments
    assert arguments[-6:-4] == ["--data.limit", "7"]
    assert arguments[-4:] == [f"--{key}={value}" for key, value in grid[-1].items()]


def test_settings_are_called_after_their_values_where_that_is_clear(read: Any) -> None:
    assert read().names() == ["r-4", "r-8"]
    two = {"model.head.r": [4], "optimizer.lr": [1e-4, 2e-4]}
    assert read(over=two).names() == ["r-4_lr-0.0001", "r-4_lr-0.0002"]
    alike = {"model.base": ["a/b", "a-b"]}
    assert read(over=alike).names() == ["setting-000", "setting-001"]
    drawn = {"optimizer.lr": {"low": 0.1, "high": 0.2}}
    assert read(over=drawn, trials=2).names() == ["setting-000", "setting-001"]


def test_a_drawn_number_is_shown_with_four_digits() -> None:
    assert brief(0.0022881136684755237) == "0.002288"
    shown = [brief(value) for value in ("0.0002", "16", "nf4", 16, '["q_proj", "v_proj"]')]
    assert shown == ["0.0002", "16", "nf4", "16", '["q_proj", "v_proj"]']


def test_every_value_and_both_ends_of_a_range_are_looked_at(read: Any) -> None:
    over = {"a": [1, 2, 3], "b": {"low": 0.5, "high": 4, "step": 0.5}}
    samples = read(over=over, trials=50).samples()
    assert [one["a"] for one in samples] == ["1", "2", "3"]
    assert [one["b"] for one in samples] == ["0.5", "4", "4"]
    assert read(over=over, trials=50).over["b"] == Range(low=0.5, high=4, step=0.5)


def test_the_command_line_wins(read: Any) -> None:
    found = read(seeds=[1, 2], instead={"seeds": [5], "compare": None, "trials": None})
    assert found.seeds == (5,)
    assert found.compare == 1


def test_a_recipe_is_known_by_its_content(read: Any, tmp_path: Path) -> None:
    definition = read()
    before = definition.described()
    assert before == definition.described()
    (tmp_path / "recipe.yaml").write_text("model: {base: pico} # changed\n")
    assert before != definition.described()
    (tmp_path / "recipe.yaml").unlink()
    with pytest.raises(UserError, match=r"recipe\.yaml"):
        definition.described()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"config": "absent"}, "config: is missing"),
        ({"over": "absent"}, "over: is missing"),
        ({"over": {}}, "over: is missing"),
        ({"over": [1]}, "over: must be a mapping"),
        ({"over": {"a": 4}}, "over.a: must be a list"),
        ({"over": {"a": []}}, "over.a: is empty"),
        ({"over": {"a": [4, 4]}}, "over.a: a value stands twice"),
        ({"ovr": {}}, "Did you mean 'over'"),
        ({"over": {"a": {"low": 1, "high": 2}}}, "a range needs a search"),
        ({"trials": 3, "over": {"a": {"low": 1}}}, "over.a: has no high"),
        ({"trials": 3, "over": {"a": {"low": 1, "hihg": 2}}}, "Did you mean 'high'"),
        ({"trials": 3, "over": {"a": {"low": "1e-4", "high": 2}}}, "write 1.0e-4"),
        ({"trials": 3, "over": {"a": {"low": 3, "high": 2}}}, "low must be less than high"),
        ({"trials": 3, "over": {"a": {"low": 0, "high": 2, "log": True}}}, "log needs a low above"),
        ({"trials": 3, "over": {"a": {"low": 0, "high": 2, "step": -1}}}, "step must be more"),
        ({"trials": 0}, "trials: 0 is not allowed"),
        ({"trials": 2}, "there are only 2 settings"),
        ({"seeds": []}, "seeds: give one or more"),
        ({"seeds": [1, 1]}, "seeds: give one or more, each once"),
        ({"seeds": [-1]}, "-1 is not allowed"),
        ({"seeds": 3}, "seeds: must be a list"),
        ({"compare": -1}, "compare: -1 is not allowed"),
        ({"pruner": {"init_args": {}}}, "pruner: has no class_path"),
        ({"over": {"seed_everything": [1]}}, "use seeds"),
        ({"options": {"trainer.default_root_dir": "x"}}, "use --logs"),
        ({"more": ("--ckpt_path=last",)}, "resumes by itself"),
        ({"evaluation": {"output": "x"}}, "evaluation.output: is set by the sweep"),
        ({"config": [3]}, "config: must be text"),
    ],
)
def test_what_does_not_fit_is_refused(keys: dict[str, Any], message: str, read: Any) -> None:
    with pytest.raises(UserError, match=r"sweep\.yaml") as caught:
        read(**keys)
    assert message in str(caught.value)
