"""What a YAML may say about a group of options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.commands import said
from tuner.cli import main
from tuner.tools.options import FitOptions

RECIPE = """\
model: {base: pico}
data: {batch_size: 7, source: Dolly}
trainer: {max_steps: 5}
guard: {max_skipped_steps: 3}
"""
EMPTY = """\
model:
data:
  curation:
trainer:  # its keys are all commented out
samples:
checkpoint:
guard:
"""
GROUPS = ("model", "data", "data.curation", "trainer", "samples", "checkpoint", "guard")


def options(*files: Path) -> dict[str, Any]:
    """What `fit` takes of recipes, one above the other."""
    words = [f"--config={file}" for file in files]
    found = FitOptions(["fit", *words]).config["fit"].as_dict()
    return {key: value for key, value in found.items() if key != "config"}


def test_an_empty_group_is_as_if_it_were_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    full, empty = tmp_path / "full.yaml", tmp_path / "empty.yaml"
    full.write_text(RECIPE)
    empty.write_text(EMPTY)
    expected = options(full)
    assert expected["trainer"]["default_root_dir"] == "logs", "what defaults.yaml says stays, too"
    assert options(full, empty) == expected
    assert options(empty, full) == expected


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(("value", "what"), [("3", "3 (int)"), ("[]", "a list")])
def test_a_group_is_a_mapping(group: str, value: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    outer, _, inner = group.rpartition(".")
    file.write_text(f"{outer}: {{{inner}: {value}}}\n" if outer else f"{inner}: {value}\n")
    expected = f"{group}: must be a mapping of keys to values, not {what}\n"
    assert said(main, "fit", "--config", file, program="train.py") == expected


def test_empty_settings_of_a_class_are_as_if_they_were_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(RECIPE + "optimizer: {class_path: torch.optim.SGD}\n")
    two.write_text(RECIPE + "optimizer:\n  class_path: torch.optim.SGD\n  init_args:\n")
    assert options(two) == options(one)


def test_the_keys_of_a_group_are_text(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("guard: {1: 2}\n")
    expected = "guard: the key 1 must be text; put it in quotes\n"
    assert said(main, "fit", "--config", file, program="train.py") == expected
