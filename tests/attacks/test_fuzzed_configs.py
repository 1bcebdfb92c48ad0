"""Recipes and command lines with mistakes: a suggestion, or one message and exit code 2."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from tests.attacks.commands import said
from tests.attacks.damage import NUMBERS, TEXTS, attack, changed, damaged, parent_of, places
from tests.conftest import ROOT
from tests.test_configs import CONFIGS, options
from tuner.checks import refuse_pairs
from tuner.cli import TunerCLI
from tuner.process import run
from tuner.tools import chat, compare, export, plan, preview, rate, report, runs, serve, sweep

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
def _at_home(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(ROOT)
    logging.disable(logging.INFO)  # Lightning's word on seeds and devices, each time
    yield
    logging.disable(logging.NOTSET)


def message(config: Path, content: bytes, folder: Path) -> str:
    """What `fit` says of a recipe that holds something else now; empty if it is allowed."""
    file = folder / config.name
    file.write_bytes(content)
    words = [str(file) if word == str(config) else word for word in options(config)]
    return said(dry, *words, *SMALL, program="train.py")


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


@pytest.mark.parametrize("cases", [3, pytest.param(600, marks=pytest.mark.soak)])
def test_recipes_with_other_values(cases: int, tmp_path: Path, figures: Figures) -> None:
    trees = [yaml.safe_load(config.read_text(encoding="utf-8")) for config in CONFIGS]
    refused = Counter[bool]()

    def check(case: tuple[int, Any]) -> None:
        place, tree = case
        content = tree if isinstance(tree, bytes) else yaml.safe_dump(tree, allow_unicode=True)
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        refused[bool(message(CONFIGS[place], content, tmp_path))] += 1

    def of(place: int) -> st.SearchStrategy[tuple[int, Any]]:
        spoilt = damaged(CONFIGS[place].read_bytes(), 2)
        return st.tuples(st.just(place), changed(trees[place], 1) | spoilt)

    tried = attack(cases, st.sampled_from(range(len(trees))).flatmap(of), check)
    assert refused[True] > 0
    figures(
        "input", "a value changed in a shipped recipe", tried,
        refused=refused[True], allowed=refused[False],
    )  # fmt: skip


# Operands that lead nowhere, and the options of each command.
COMMANDS: dict[str, tuple[Callable[[list[str]], int], tuple[str, ...], tuple[str, ...]]] = {
    "fit": (
        dry, ("fit", "--config=configs/demo.yaml"),
        ("data.batch_size", "data.val_size", "data.seed", "data.max_length", "model.head",
         "model.head.r", "model.head.alpha", "model.quantize", "optimizer", "optimizer.lr",
         "lr_scheduler.warmup", "trainer.max_steps", "trainer.precision", "seed_everything",
         "name", "ckpt_path", "data.source.path", "data.source.limit", "samples.count",
         "trainer.devices", "trainer.strategy", "trainer.callbacks", "data.curation.max_leaks"),
    ),
    "eval": (
        compare.main, ("none",),
        ("data", "suite", "limit", "batch_size", "max_new_tokens", "temperature", "top_p",
         "metrics", "primary", "baselines", "few_shot", "latency", "output", "seed", "logs"),
    ),
    "chat": (
        chat.main, ("none",),
        ("system", "temperature", "top_p", "max_new_tokens", "seed", "dtype", "history", "port",
         "host", "logs"),
    ),
    "rate": (
        rate.main, ("none",),
        ("systems", "items", "repeats", "seed", "port", "export", "rater", "import", "logs"),
    ),
    "report": (report.main, ("none",), ("logs",)),
    "runs": (runs.main, (), ("sort", "logs")),
    "export": (export.main, ("none",), ("to", "form", "dtype", "logs")),
    "serve": (serve.main, ("none",), ("host", "port", "engine", "form", "dtype", "logs")),
    "sweep": (sweep.main, ("none.yaml",), ("config", "seeds", "trials", "compare", "name", "logs")),
    "preview": (preview.main, ("--config=none.yaml",), ("split", "rows", "html")),
    "plan": (plan.main, ("--config=none.yaml",), ("device", "json")),
}  # fmt: skip


@pytest.mark.parametrize("cases", [30, pytest.param(3000, marks=pytest.mark.soak)])
def test_command_lines(
    cases: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "data").symlink_to(ROOT / "data")
    refused = Counter[bool]()
    light = sorted(COMMANDS.keys() - {"fit", "plan", "preview"})  # the parser of fit is a large one
    typed = [text for text in TEXTS if "\x00" not in text]  # no shell can hand that over
    values = st.sampled_from(typed) | st.sampled_from(NUMBERS).map(str) | st.text(
        st.characters(exclude_characters="\x00"), max_size=6
    )  # fmt: skip

    def words(name: str) -> st.SearchStrategy[list[str]]:
        known = st.sampled_from(COMMANDS[name][2])
        option = known | known.map(lambda key: key[:-1]) | known.map(lambda key: f"{key}x")
        given = st.one_of(
            st.tuples(option, values).map(lambda pair: [f"--{pair[0]}={pair[1]}"]),
            st.tuples(option, values).map(lambda pair: [f"--{pair[0]}", pair[1]]),
            option.map(lambda key: [f"--{key}"]),
            values.map(lambda value: [value]),
        )
        return st.lists(given, min_size=1, max_size=2).map(
            lambda lists: [word for one in lists for word in one]
        )

    def check(case: tuple[str, list[str]]) -> None:
        main, operands, _ = COMMANDS[case[0]]
        refused[bool(said(main, *operands, *case[1]))] += 1

    names = st.sampled_from([*light] * 4 + ["fit", "plan", "preview"])
    tried = attack(cases, names.flatmap(lambda name: st.tuples(st.just(name), words(name))), check)
    assert refused[True] > refused[False]
    figures("input", "odd command lines", tried, refused=refused[True], done=refused[False])


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
