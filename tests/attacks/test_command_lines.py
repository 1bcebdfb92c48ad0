"""Odd options for every command on a run that is there: it does it, or says in words what not."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.attacks.commands import said
from tests.attacks.damage import NUMBERS, TEXTS, attack
from tests.conftest import ROOT
from tests.evaluation.made import made
from tests.sweep.conftest import STUB
from tuner import cli
from tuner.evaluation.predictions import write_predictions
from tuner.evaluation.results import write_results
from tuner.tools import chat, compare, export, plan, preview, rate, report, runs, serve, sweep
from tuner.visible import visible

TRAINED = (
    *("data.batch_size", "data.val_size", "data.seed", "data.max_length", "model.head"),
    *("model.head.r", "model.head.alpha", "model.quantize", "optimizer", "optimizer.lr"),
    *("lr_scheduler.warmup", "trainer.max_steps", "trainer.precision", "seed_everything"),
    *("name", "data.source.path", "data.source.limit", "samples.count", "trainer.callbacks"),
    *("data.curation.max_leaks", "trainer.gradient_clip_val", "checkpoint.every_n_steps"),
)
READ = ("ckpt_path", "data.batch_size", "data.source.limit", "trainer.precision", "name")
# How long a real answer takes is what a case costs.
SHORT = ("--limit=2", "--max_new_tokens=3", "--latency=0", "--baselines=[]")
Main = Callable[[list[str]], int]
# What each command works on, and its options; `{fit}` stands for the options of a small run,
# `{trial}` for those that a sweep does not set itself.
COMMANDS: dict[str, tuple[Main, tuple[str, ...], tuple[str, ...]]] = {
    "fit": (cli.main, ("fit", "{fit}"), TRAINED),
    "validate": (cli.main, ("validate", "{fit}", "--ckpt_path=last"), READ),
    "predict": (cli.main, ("predict", "{fit}", "--ckpt_path=last"), READ),
    "eval": (
        compare.main, ("lora", *SHORT),
        ("data", "suite", "limit", "batch_size", "max_new_tokens", "temperature", "top_p",
         "metrics", "primary", "baselines", "few_shot", "latency", "output", "seed", "logs"),
    ),
    "chat": (
        chat.main, ("lora", "--max_new_tokens=3"),
        ("system", "temperature", "top_p", "max_new_tokens", "seed", "dtype", "history", "port",
         "host", "logs"),
    ),
    "rate": (
        rate.main, ("c", "--no_browser", "--port=0"),
        ("systems", "items", "repeats", "seed", "port", "export", "rater", "import", "logs"),
    ),
    "report": (report.main, ("c",), ("logs",)),
    "runs": (runs.main, (), ("sort", "logs")),
    "export": (export.main, ("lora", "--to=to"), ("to", "form", "dtype", "logs")),
    "serve": (
        serve.main, ("lora", "--engine=transformers", "--port=0"),
        ("host", "port", "engine", "form", "dtype", "logs"),
    ),
    "sweep": (
        sweep.main, ("ranks.yaml", "{trial}"),
        ("config", "seeds", "trials", "compare", "name", "logs"),
    ),
    "preview": (preview.main, ("{fit}",), ("split", "rows", "html")),
    "plan": (plan.main, ("{fit}",), ("device", "json", "model.head.r", "data.batch_size")),
}  # fmt: skip
LIKELY = (
    *("1", "2", "3", "8") * 4, *("0", "0.5", "-1", "1e-3", "null", "true", "auto", "[]"),
    *("base", "lora", "c", "cpu", "float32", "adapter", "merged", "val", "all", "rougeL", "copy"),
    *("configs/suites/faq.yaml", "recipe.yaml", "new/deep", "logs", "IA3", "SGD", "32-true"),
    *("best", "last", "started", "majority"),
)  # fmt: skip
HEAVY = ("fit", "validate", "predict", "sweep", "preview", "plan", "eval", "export", "serve")
PLACES = ("output", "to", "export", "html", "history", "logs")  # that the user chooses
SWEEP = "config: recipe.yaml\nover: {model.head.r: [2]}\nseeds: [1]\ncompare: 0\n"


@pytest.fixture
def home(
    whole: Path, command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], list[str]]]:
    """Makes the folder of a user who has a run, a comparison and a sweep; returns `{fit}`.

    It is deep in the test's folder: what leads out of it is seen. No page and no engine starts.
    """
    place = tmp_path / "a" / "b" / "c" / "home"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    fit = [
        *(word for word in command("fit")[1:] if "_dir" not in word), "--data.max_length=128",
        "--name=lora", "--trainer.default_root_dir=logs", "--trainer.max_steps=1",
        "--data.cache_dir=cache", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1",
        "--trainer.limit_predict_batches=1", "--data.test_size=4",
    ]  # fmt: skip
    results, rows = made({"base": ["one two", "three"], "lora": ["one two three", "two"]})
    monkeypatch.setattr("tuner.server.serve", lambda *_: None)
    monkeypatch.setattr(os, "execve", lambda *_: None)
    monkeypatch.setattr("tuner.sweep.fit.PROGRAM", (sys.executable, "-S", str(STUB)))
    monkeypatch.setattr("tuner.sweep.fit.POLL", 0.02)
    monkeypatch.setattr("tuner.tools.sweep.compare_chosen", lambda *_: None)  # the stub has no base
    logging.disable(logging.INFO)  # Lightning's word on seeds and devices, each time

    def begin() -> list[str]:
        os.chdir(tmp_path)  # an engine starts elsewhere
        shutil.rmtree(tmp_path / "a")
        shutil.copytree(whole, place / "logs" / "lora" / whole.name)
        (place / "logs" / "compare" / "c").mkdir(parents=True)
        write_predictions(place / "logs" / "compare" / "c" / "predictions.jsonl", rows)
        write_results(place / "logs" / "compare" / "c" / "results.json", results)
        (place / "recipe.yaml").write_text("seed_everything: 1\n")
        (place / "ranks.yaml").write_text(SWEEP)
        (place / "configs").symlink_to(ROOT / "configs")
        (place / "data").symlink_to(ROOT / "data")
        os.chdir(place)
        return fit

    yield begin
    logging.disable(logging.NOTSET)


def escaped(folder: Path, words: list[str]) -> set[Path]:
    """What a command has left beside the runs and the cache, where it was told no other place."""
    if any(word.lstrip("-").partition("=")[0] in PLACES for word in words):
        return set()
    place = folder / "a" / "b" / "c" / "home"
    own = {"logs", "cache", "recipe.yaml", "ranks.yaml", "configs", "data", "to"}
    ways = {place, *place.parents}
    return {
        path
        for path in folder.rglob("*")
        if path not in ways and not any(path.is_relative_to(place / name) for name in own)
    }


def values() -> st.SearchStrategy[str]:
    """Words that a shell can hand over; no path of the machine, as a place may be made there."""
    typed = [text for text in TEXTS if "\x00" not in text and text != "/"]
    letters = st.text(st.characters(exclude_characters="\x00/"), max_size=6)
    return st.sampled_from(typed) | st.sampled_from(NUMBERS).map(str) | letters


def words_for(name: str) -> st.SearchStrategy[list[str]]:
    """One option that may well be allowed, or one or two odd words."""
    known = st.sampled_from(COMMANDS[name][2])
    option = known | known.map(lambda key: key[:-1]) | known.map(lambda key: f"{key}x")
    likely = st.tuples(known, st.sampled_from(LIKELY)).map(lambda pair: [f"--{pair[0]}={pair[1]}"])
    odd = st.one_of(
        st.tuples(known, values()).map(lambda pair: [f"--{pair[0]}={pair[1]}"]),
        st.tuples(option, values()).map(lambda pair: [f"--{pair[0]}", pair[1]]),
        option.map(lambda key: [f"--{key}"]),
        values().map(lambda value: [value]),
    )
    several = st.lists(odd, min_size=1, max_size=2).map(
        lambda lists: [word for one in lists for word in one]
    )
    return likely | likely | several


def is_named(words: list[str], message: str) -> bool:
    """Whether a message says which of the words is wrong: its option, or the word itself."""
    options = [word.lstrip("-").partition("=")[0] for word in words if word.startswith("--")]
    others = [word.partition("=")[2] if word.startswith("--") else word for word in words]
    return any(key and key in message for key in options) or any(
        visible(word)[:20] in message for word in others
    )


@pytest.mark.parametrize("cases", [6, pytest.param(600, marks=pytest.mark.soak)])
def test_command_lines(
    cases: int,
    home: Callable[[], list[str]],
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    refused, done = Counter[str](), Counter[str]()

    def check(case: tuple[str, list[str]]) -> None:
        name, words = case
        main, operands, _ = COMMANDS[name]
        fit = home()
        trial = [word for word in fit if not word.startswith(("--name", "--trainer.default_root"))]
        known = {"{fit}": fit, "{trial}": trial}
        given = [word for one in operands for word in known.get(one, [one])]
        program = "train.py" if main is cli.main else "tuner"
        message = said(main, *given, *words, program=program)
        (refused if message else done)[name] += 1
        assert not message or is_named(words, message), (name, words, message)
        assert not escaped(tmp_path, words), (name, words)

    light = sorted(COMMANDS.keys() - set(HEAVY))
    for name in light if cases < 100 else COMMANDS:  # what the operands name is there
        check((name, []))
    names = st.sampled_from([*light * (4 if cases < 100 else 1), *HEAVY])
    tried = attack(
        cases, names.flatmap(lambda name: st.tuples(st.just(name), words_for(name))), check
    )
    assert refused.total() > 0
    assert set(done) >= set(light if cases < 100 else COMMANDS)
    figures(
        "input", "odd command lines on a run that is there", tried,
        refused=refused.total(), done=done.total(),
    )  # fmt: skip
