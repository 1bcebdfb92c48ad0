"""Recipes and command lines with mistakes: a suggestion, or one message and exit code 2."""

from __future__ import annotations

import logging
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from tests.attacks.commands import said
from tests.attacks.damage import attack, changed, damaged, nudged, parent_of, places
from tests.conftest import ROOT
from tests.test_configs import CONFIGS, options
from tuner.checks import refuse_pairs
from tuner.cli import TunerCLI, main
from tuner.process import run
from tuner.runs import every_run
from tuner.sums import SUMS
from tuner.tools import chat, compare, rate, runs

Figures = Callable[..., None]
SMALL = ("--model.base=pico", "--trainer.strategy=auto", "--trainer.devices=1")


class Dry(TunerCLI):
    """Everything is made of the options and checked; nothing is loaded."""

    def before_fit(self) -> None:
        refuse_pairs(self.trainer, self.model, self.datamodule)

    def fit(self, model: Any, **kwargs: Any) -> None:
        """Nothing is trained."""

    def after_fit(self) -> None:
        """Nothing is exported."""


def dry(args: list[str]) -> int:
    return run(lambda: Dry(args) and None)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("configs", "data"):  # a changed recipe may keep prepared data in any folder
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    logging.disable(logging.INFO)  # Lightning's word on seeds and devices, each time
    yield
    logging.disable(logging.NOTSET)


def message(
    config: Path, content: bytes, folder: Path, *more: str, fit: Callable[[list[str]], int] = dry
) -> str:
    """What `fit` says of a recipe that holds something else now; empty if it is allowed."""
    file = folder / config.name
    file.write_bytes(content)
    words = [str(file) if word == str(config) else word for word in options(config)]
    return said(fit, *words, *SMALL, *more, program="train.py")


def misspelt(key: str, draw: random.Random) -> str:
    """The key with a letter doubled, left out, put in or two of them changed about."""
    place = draw.randrange(1, max(len(key) - 1, 2))
    return draw.choice(
        [
            key[:place] + key[place - 1 :],
            key[:place] + "x" + key[place:],
            key[:place] + key[place + 1 :] if len(key) > 4 else key + "s",
            key[: place - 1] + key[place - 1 : place + 1][::-1] + key[place + 1 :],
        ]
    )


def every_key() -> list[tuple[Path, tuple[Any, ...]]]:
    found: list[tuple[Path, tuple[Any, ...]]] = []
    for config in CONFIGS:
        tree = yaml.safe_load(config.read_text(encoding="utf-8"))
        found += [(config, path) for path in places(tree) if isinstance(path[-1], str)]
    return found


@pytest.mark.parametrize("cases", [4, pytest.param(10_000, marks=pytest.mark.soak)])
def test_every_misspelt_key_of_every_shipped_recipe_is_named_with_the_right_one(
    cases: int, tmp_path: Path, figures: Figures
) -> None:
    draw = random.Random(cases)
    chosen = every_key()
    chosen = draw.sample(chosen, min(cases, len(chosen)))
    for config, path in chosen:
        tree = yaml.safe_load(config.read_text(encoding="utf-8"))
        parent, key = parent_of(tree, path), path[-1]
        while (wrong := misspelt(key, draw)) in (key, *parent):
            pass
        parent[wrong] = parent.pop(key)
        text = message(config, yaml.safe_dump(tree).encode(), tmp_path)
        assert f"{wrong}'" in text, (config.name, path, text)
        meant = (
            text.partition("Did you mean '")[2].partition("'")[0] or text.partition("Allowed:")[2]
        )
        assert key in meant, (config.name, path, wrong, text)
    figures("input", "a key misspelt in a shipped recipe", len(chosen), suggested=len(chosen))


@pytest.mark.parametrize(
    ("old", "wrong", "expected"),
    [
        ("trainer", "trianer", "'trianer' (demo.yaml:24). Did you mean 'trainer'"),
        ("source", "sorce", "'data.sorce' (demo.yaml:13). Did you mean 'data.source'"),
        ("class_path", "clas_path", "'model.head.clas_path' (demo.yaml:6). Did you mean"),
        ("init_args", "init_arg", "'model.head.init_arg' (demo.yaml:7). Did you mean"),
    ],
)
def test_a_misspelt_group_is_named_where_it_stands(
    old: str, wrong: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "configs/demo.yaml").read_text(encoding="utf-8").replace(old, wrong, 1)
    monkeypatch.chdir(tmp_path)
    Path("demo.yaml").write_text(text)
    found = said(dry, "fit", "--config", "demo.yaml", program="train.py")
    line = next(n for n, row in enumerate(text.splitlines(), start=1) if wrong in row)
    assert f"demo.yaml:{line})" in found
    assert expected.partition(" (")[0] in found
    assert expected.partition("). ")[2] in found


def in_yaml(tree: Any) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")


def spoilt() -> st.SearchStrategy[tuple[Path, bytes]]:
    """A shipped recipe, and what it holds now."""

    def of(config: Path) -> st.SearchStrategy[tuple[Path, bytes]]:
        content = config.read_bytes()
        texts = changed(yaml.safe_load(content), 1).map(in_yaml)
        return st.tuples(st.just(config), texts | damaged(content, 2))

    return st.sampled_from(CONFIGS).flatmap(of)


def tuned() -> st.SearchStrategy[tuple[Path, bytes]]:
    """A shipped recipe with another number, which is allowed more often than not."""

    def of(config: Path) -> st.SearchStrategy[tuple[Path, bytes]]:
        return st.tuples(st.just(config), nudged(yaml.safe_load(config.read_bytes())).map(in_yaml))

    return st.sampled_from(CONFIGS).flatmap(of)


@pytest.mark.parametrize("cases", [3, pytest.param(600, marks=pytest.mark.soak)])
def test_recipes_with_other_values(cases: int, tmp_path: Path, figures: Figures) -> None:
    refused = Counter[bool]()

    def check(case: tuple[Path, bytes]) -> None:
        refused[bool(message(*case, tmp_path))] += 1

    tried = attack(cases, spoilt(), check)
    assert refused[True] > 0
    figures(
        "input", "a value changed in a shipped recipe", tried,
        refused=refused[True], allowed=refused[False],
    )  # fmt: skip


@pytest.mark.parametrize("cases", [4, pytest.param(200, marks=pytest.mark.soak)])
def test_other_values_are_trained_with(
    cases: int, command: Callable[..., list[str]], tmp_path: Path, figures: Figures
) -> None:
    """A step on rows and a base that are at hand: all else is what the recipe says."""
    kept = ("data.batch_size", "trainer.log_every_n_steps", "samples.count")
    small = [word for word in command("fit")[1:] if not word[2:].startswith(kept)]
    small += ["--data.max_length=128", "--samples.max_new_tokens=2"]
    small += ["--data.val_size=4", "--data.test_size=4", "--data.num_workers=0"]
    small += [f"--trainer.{key}=1" for key in ("max_steps", "limit_val_batches", "num_nodes")]
    refused = Counter[bool]()

    def check(case: tuple[Path, bytes]) -> None:
        shutil.rmtree(tmp_path / "logs", ignore_errors=True)
        said = message(*case, tmp_path, *small, fit=main)
        refused[bool(said)] += 1
        finished = [run for run in every_run(tmp_path / "logs") if [*run.glob(f"*/{SUMS}")]]
        assert len(finished) == (not said), "it is trained with, or refused"

    tried = attack(cases, tuned() | tuned() | spoilt(), check)
    assert refused[False] > 0
    figures(
        "input", "a step of a shipped recipe with a value changed", tried,
        refused=refused[True], trained=refused[False],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("main", "args", "expected"),
    [
        (chat.main, ("x" * 300,), "no run named"),
        (rate.main, ("x" * 300,), "no comparison"),
        (runs.main, ("--logs", "x" * 300), "File name too long"),
        (chat.main, ("a", "--max_new_tokens", "9" * 400), "max_new_tokens: 999"),
        (compare.main, ("a", "--temperature", ".inf"), "--temperature: inf"),
        (dry, ("fit", "--model.base=pico", "--data.source=Dolly", "--model.head.alpha=.nan"),
         "model.head.alpha: nan"),
        (dry, ("fit", "--model.base=pico", "--data.source=Dolly", "--data.seed=-1"),
         "data.seed: -1"),
    ],
)  # fmt: skip
def test_arguments_that_had_no_words(
    main: Callable[[list[str]], int], args: tuple[str, ...], expected: str
) -> None:
    assert expected in said(main, *args)
