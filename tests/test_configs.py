"""Every shipped configuration parses against the real signatures, and a typo in it is caught."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuner.cli import TunerCLI, main
from tuner.data.datamodule import ConversationData
from tuner.module import ChatTuner

ROOT = Path(__file__).parent.parent
# Read by tests/evaluation/test_suite.py and tests/sweep/test_definition.py.
OTHERS = {ROOT / "configs" / name for name in ("suites", "sweeps")}
CONFIGS = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if p.parent not in OTHERS)


class Parsed(Exception):
    """Raised when everything is instantiated, to stop before anything is loaded."""


class Dry(TunerCLI):
    def before_fit(self) -> None:
        assert isinstance(self.model, ChatTuner)
        assert isinstance(self.datamodule, ConversationData)
        raise Parsed


def options(config: Path) -> list[str]:
    overlay = config.parent.name in ("data", "debug") or config.name == "defaults.yaml"
    first = ["--config", str(ROOT / "configs" / "demo.yaml")] if overlay else []
    return ["fit", *first, "--config", str(config), "--trainer.accelerator", "cpu"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: p.stem)
def test_parses(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(Parsed):
        Dry(options(config))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: p.stem)
def test_says_how_to_run_it_and_stays_short(config: Path) -> None:
    text = config.read_text(encoding="utf-8")
    assert text.startswith("#")
    assert len(text.splitlines()) <= 40


def keys(node: Any) -> list[tuple[dict[str, Any], str]]:
    found: list[tuple[dict[str, Any], str]] = []
    if isinstance(node, dict):
        for key, value in node.items():
            found += [(node, key), *keys(value)]
    elif isinstance(node, list):
        found += [pair for item in node for pair in keys(item)]
    return found


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: p.stem)
def test_a_typo_is_caught(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    node, key = keys(content)[-1]
    node[key + "x"] = node.pop(key)
    broken = tmp_path / config.name
    broken.write_text(yaml.safe_dump(content))
    arguments = [str(broken) if a == str(config) else a for a in options(config)]
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert main(arguments) == 2
    assert f"{key}x" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "key", "wanted"),
    [
        (("--model.head=VeRA",), "head", {"r": 256, "dropout": 0.0}),
        (("--config=configs/oft.yaml",), "head", {"dropout": 0.0}),
        (("--data.source=Dolly",), "source", {"path": None}),
        (("--optimizer=torch.optim.SGD",), "optimizer", {"lr": 0.003}),  # a recipe's rate stays
    ],
)
def test_another_class_begins_with_its_own_defaults(
    options: tuple[str, ...],
    key: str,
    wanted: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit):
        main(["fit", "--config=configs/demo.yaml", *options, "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    found = {"head": config["model"]["head"], "source": config["data"]["source"]}
    found["optimizer"] = config["optimizer"]
    settings = found[key]["init_args"]
    assert {name: settings[name] for name in wanted} == wanted
