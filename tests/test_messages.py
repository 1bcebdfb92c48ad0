"""Errors of the parser in plain words: what, where, what is allowed, the nearest match."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning_utilities.core.imports import RequirementCache

from tests.attacks.commands import DUMPS
from tuner.cli import main

YAML = """\
# max_epochs, pahts and other words in a comment are no place of a mistake
model:
  head:
    class_path: LoRA
    init_args: {r: 8}
data:
  source:
    class_path: Conversations
    init_args:
      path: rows.jsonl
trainer:
  max_epochs: 1
"""
Explained = Callable[..., str]


@pytest.fixture
def explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Explained:
    """The one message that `fit` gives for a recipe, one of its lines changed, and options."""
    monkeypatch.chdir(tmp_path)

    def answer(*options: str, old: str = "", new: str = "") -> str:
        assert old in YAML
        Path("recipe.yaml").write_text(YAML.replace(old, new) if old else YAML)
        arguments = ["--config", "recipe.yaml", *options]
        monkeypatch.setattr(sys, "argv", ["train.py", "fit", *arguments])
        assert main(["fit", *arguments]) == 2
        text = capsys.readouterr().err
        assert text.count("error:") == 1
        assert "Traceback" not in text
        return text

    return answer


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("      path:", "      paht:", ["'paht' (recipe.yaml:10)", "Did you mean 'path'"]),
        ("{r: 8}", "{rank: 8}", ["'rank' (recipe.yaml:5)", "alpha", "dropout"]),
        ("LoRA\n", "LORA\n", ["'LORA' (recipe.yaml:4)", "Did you mean 'LoRA'"]),
        ("Conversations\n", "Dollly\n", ["'Dollly' (recipe.yaml:8)", "Did you mean 'Dolly'"]),
        ("max_epochs: 1", "max_epochs: one", ["trainer.max_epochs", "'one'", "recipe.yaml:12"]),
        ("  max_epochs:", "  max_epoch:", ["recipe.yaml:12", "trainer.max_epochs"]),
        ("{r: 8}", "{r: eight}", ["model.head.r: 'eight'", "expected int (recipe.yaml:5)"]),
        ("{r: 8}", "{r: null}", ["model.head.r: null is not allowed", "expected int"]),
        ("trainer:", "trainer:\n  max_steps: null", ["trainer.max_steps: null is not allowed"]),
        (
            "trainer:",
            "trainer:\n  callbacks: [{class_path: EarlyStopping, init_args: {monitor: null}}]",
            ["trainer.callbacks: missing: monitor"],
        ),
    ],
)
def test_mistakes_in_a_recipe(
    old: str, new: str, expected: list[str], explained: Explained
) -> None:
    text = explained(old=old, new=new)
    assert not [part for part in expected if part not in text], text


def test_null_is_no_number(explained: Explained) -> None:
    text = explained(old="trainer:", new="samples: {count: null}\ntrainer:")
    assert "samples.count: null is not allowed" in text


def test_a_recipe_that_is_no_text(explained: Explained, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_bytes("# für\nname: x\n".encode("latin-1"))
    assert "--config: cannot read other.yaml: 'utf-8'" in explained("--config", "other.yaml")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--data.batch=4", ["unknown key 'data.batch'", "Did you mean 'data.batch_size'"]),
        ("--data.batchsize=4", ["'data.batchsize'", "Did you mean 'data.batch_size'"]),
        ("--model.quantize=nf5", ["model.quantize", "'nf5'", "nf4"]),
        ("--optimizer=Adamm", ["unknown class 'Adamm'", "Did you mean 'Adam"]),
        ("--lr_scheduler.decay=cosin", ["lr_scheduler.decay: 'cosin'", "one of 'constant', 'l"]),
        ("--model.head.init=x", ["model.head.init: 'x'", "one of 'default', 'gaussian'"]),
        ("--model.head.target_modules=5", ["model.head.target_modules: '5'", "list or one of"]),
        ("--optimizer.lr=fast", ["optimizer.lr: 'fast'", "expected float"]),
        ("--data.source.limit=few", ["limit: 'few'", "expected int"]),
        ("--trainer.callbacks=Foo", ["trainer.callbacks: unknown class 'Foo'", "EarlyStopping"]),
        ("--data.source.limt=3", ["'limt'", "Did you mean 'limit'"]),
        ("--model.head=mine.Head", ["model.head: cannot import 'mine.Head': No module", "folder"]),
        ("--data.prompt=tuner.heads.LORA", ["data.prompt: cannot import 'tuner.heads.LORA': mod"]),
        ("--model.head=pathlib.Path", ["model.head: 'pathlib.Path' is no Head"]),
    ],
)
def test_mistakes_on_the_command_line(
    option: str, expected: list[str], explained: Explained
) -> None:
    text = explained(option)
    assert not [part for part in expected if part not in text], text
    assert "recipe.yaml" not in text, "the mistake is not in the file"


def test_a_recipe_that_is_not_there_names_the_nearest_beside_it(
    explained: Explained, tmp_path: Path
) -> None:
    (tmp_path / "qlora.yaml").touch()
    text = explained("--config=qlroa.yaml")
    assert "qlroa.yaml. Did you" in text
    assert "Did you mean 'qlora.yaml'" in text


def test_a_file_that_is_no_yaml_is_named_with_its_line(explained: Explained) -> None:
    text = explained(old="  max_epochs: 1", new="  max_epochs: [1")
    assert "--config: recipe.yaml:13: no valid YAML" in text


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ("trainer:\n  max_steps: 3\n  max_steps: 4", "the key 'max_steps' stands twice"),
        ("trainer:\n  callbacks: &a [*a]", "or for themselves"),
    ],
)
def test_what_a_yaml_can_do_but_nobody_means(new: str, expected: str, explained: Explained) -> None:
    assert expected in explained(old="trainer:", new=new)


def test_an_unknown_subcommand_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert main(["fitt"]) == 2
    assert "Did you mean 'fit'" in capsys.readouterr().err


CLASS = "is no class with its settings; give its name, or a mapping of class_path"
STOPS = "{class_path: EarlyStopping, init_args: {monitor: val_loss, mode: sideways}}"


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--model.head={class_path: 3}", f"model.head: {{'class_path': 3}} {CLASS}"),
        ("--optimizer=[]", f"optimizer: [] {CLASS}"),
        ("--model.head={class_path: LoRA, init_args: [1]}", f"'init_args': [1]}} {CLASS}"),
        ("--model.head={class_path: null}", f"model.head: {{'class_path': None}} {CLASS}"),
        ("--model.head={class_path: [LoRA]}", f"model.head: {{'class_path': ['LoRA']}} {CLASS}"),
        ("--model.head={class_path: ..}", f"model.head: {{'class_path': '..'}} {CLASS}"),
        ("--data.prompt={class_path: ''}", f"data.prompt: {{'class_path': ''}} {CLASS}"),
        ("--model.head={class_path: LoRA, init_args: {1: 2}}", "model.head: Key must be a string"),
        (
            "--model.head={class_path: LoRA, dict_kwargs: {a: 1}}",
            "model.head: LoRA.__init__() got an unexpected keyword argument 'a'",
        ),
        ("--trainer.callbacks=[null]", f"trainer.callbacks: [None] {CLASS}"),
        (f"--trainer.callbacks=[{STOPS}]", "trainer.callbacks: `mode` can be min, max, got side"),
        ("--trainer.plugins=[null]", f"trainer.plugins: [None] {CLASS}"),
        ("--data.source={class_path: Mixture, init_args: {sources: [null]}}", f"null {CLASS}"),
        ("--samples=word", "samples: 'word' is not allowed; expected a mapping of keys"),
        (f"--model.head={'[' + '1,' * 500}1]", f"... {CLASS}"),
    ],
)
def test_of_all_that_the_parser_tried_the_reason_alone_is_told(
    option: str, expected: str, explained: Explained
) -> None:
    text = explained(option)
    assert expected in text
    assert len(text) < 400
    assert not [dump for dump in DUMPS if dump in text], text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "trainer.logger: Requirement 'nosuch>=1' not met. HINT: Try running `pip"),
        (["--trainer.logger.init_args.api_key=x"], "trainer.logger: unknown key 'api_key'. "),
    ],
)
def test_a_logger_whose_package_is_missing(
    options: list[str], expected: str, explained: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = RequirementCache("nosuch>=1")
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", missing)
    text = explained("--trainer.logger=WandbLogger", *options)
    assert expected in text
    assert "Did you mean 'api_key'" not in text
