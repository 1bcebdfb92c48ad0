"""A run folder of which any file is damaged: every command that reads runs says so, or goes on."""

from __future__ import annotations

import json
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from tests.attacks.commands import said
from tests.attacks.damage import attack, changed, damaged, flipped
from tuner.checkpoint import load_checkpoint, newest
from tuner.errors import UserError
from tuner.overview import overview
from tuner.runs import find_checkpoint
from tuner.sums import SUMS
from tuner.tools import chat, compare, export, runs

TREES: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], str]]] = {
    "run.json": (json.loads, json.dumps),
    "data_card.json": (json.loads, json.dumps),
    "config.yaml": (yaml.safe_load, yaml.safe_dump),
    "adapter/prompt.json": (json.loads, json.dumps),
    "adapter/adapter_config.json": (json.loads, json.dumps),
    "checkpoints/manifest.json": (json.loads, json.dumps),
}
BYTES = (
    *("metrics.csv", "adapter/adapter_model.safetensors"),
    *("checkpoints/last.ckpt", "checkpoints/best.ckpt"),
)


def of_run(run: Path) -> st.SearchStrategy[tuple[str, bytes]]:
    """The name of a file of a run, and what it holds now."""
    found: list[st.SearchStrategy[tuple[str, bytes]]] = []
    for name in (*TREES, *BYTES):
        content = (run / name).read_bytes()
        damage = damaged(content)
        if name in TREES:
            parse, write = TREES[name]
            spoilt = changed(parse(content)).map(write)
            damage |= spoilt.map(lambda text: text.encode("utf-8", "surrogatepass"))
        found.append(st.tuples(st.just(name), damage))
    return st.one_of(found)


def stop_before_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is read and checked, and no model answers: that is what takes the time."""

    def loaded(systems: Any, test_set: Any, plan: Any, output: Path) -> None:
        from tuner.evaluation.compare import _setting, curves

        json.dumps(_setting(systems, test_set, plan).systems)
        for system in systems:
            if system.run is not None:
                curves(system.run)
        raise UserError("all is read")

    def released(system: Any, *_: Any, **__: Any) -> tuple[str, bool]:
        assert system.prompt
        assert system.card
        return "all is read", True

    monkeypatch.setattr(compare, "compare", loaded)
    monkeypatch.setattr(export, "release", released)


@pytest.mark.parametrize("cases", [8, pytest.param(1200, marks=pytest.mark.soak)])
def test_every_command_that_reads_a_run(
    cases: int,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figures: Callable[..., None],
) -> None:
    stop_before_answers(monkeypatch)
    monkeypatch.chdir(tmp_path)  # a damaged config may keep prepared data in any folder
    logs, refused = tmp_path / "logs", Counter[bool]()
    run = logs / "lora" / whole.name

    def check(case: tuple[str, bytes]) -> None:
        name, content = case
        shutil.rmtree(logs, ignore_errors=True)
        shutil.copytree(whole, run)
        (run / "adapter" / SUMS).unlink()  # by which every change of an export is noticed
        (run / name).write_bytes(content)
        assert not said(runs.main, "--logs", logs)
        if name.startswith("checkpoints"):
            for which in ("last", "best"):
                refused[_refused(which, logs)] += 1
            return
        messages = [
            said(compare.main, "lora", "--logs", logs).replace("all is read\n", ""),
            said(export.main, "lora", "--to", tmp_path / "to", "--logs", logs),
        ]
        if name.startswith("adapter"):
            messages.append(said(chat.main, "lora", "--logs", logs, "--history", "null"))
        refused[any(messages)] += 1

    tried = attack(cases, of_run(whole), check)
    assert refused[True] > 0 < refused[False]
    figures("input", "damaged run folders", tried, refused=refused[True], read=refused[False])


def _refused(which: str, logs: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the files that are passed over
        try:
            file = find_checkpoint(which, logs, "lora")
        except UserError:
            return True
    assert set(load_checkpoint(file)) >= {"tuner", "state_dict", "optimizer_states"}
    return False


@pytest.mark.parametrize("cases", [10, pytest.param(3000, marks=pytest.mark.soak)])
def test_no_bit_of_a_checkpoint_can_be_changed_unnoticed(
    cases: int, whole: Path, tmp_path: Path, figures: Callable[..., None]
) -> None:
    content = (whole / "checkpoints/last.ckpt").read_bytes()
    manifest = (whole / "checkpoints/manifest.json").read_bytes()
    file = tmp_path / "last.ckpt"

    def check(bit: int) -> None:
        file.write_bytes(flipped(content, bit))
        with pytest.raises(UserError, match="no usable checkpoint"):
            load_checkpoint(file)

    (tmp_path / "manifest.json").write_bytes(manifest)
    tried = attack(cases, st.integers(0, 8 * len(content) - 1), check)
    file.write_bytes(content)
    assert load_checkpoint(file)["global_step"] == 2
    figures("input", "one bit of a checkpoint flipped", tried, noticed=tried)


def test_a_manifest_that_names_no_names(tmp_path: Path) -> None:
    entries = [{"name": ["last.ckpt"], "sha256": {}, "step": 1}]
    (tmp_path / "manifest.json").write_text(json.dumps({"checkpoints": entries}))
    (tmp_path / "last.ckpt").touch()
    assert [file.name for file in newest(tmp_path)] == ["last.ckpt"]


@pytest.mark.parametrize(
    "record",
    [
        {"best": {"val_loss": 10**400}, "trainable_percent": 10**400},
        {"started": "0001-01-01T00:00:00", "steps": float("inf")},
    ],
)
def test_numbers_and_moments_without_bounds_are_no_figures(record: Any, tmp_path: Path) -> None:
    run = tmp_path / "lora" / "version_0"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(record))
    (row,) = overview(tmp_path)
    assert {row[key] for key in ("val_loss", "trainable_percent", "started", "steps")} == {None}
    assert not said(runs.main, "--logs", tmp_path)
