"""Plain words for what the config parser found: what, where, what is allowed, the nearest match."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tuner.errors import nearest
from tuner.gist import GIVEN, gist, short
from tuner.misspelt import misspelt
from tuner.plugins import subclasses
from tuner.written import UNREADABLE, parse, unreadable

KEY = re.compile(r'Parser key "([\w.+]+)"')
CLASS = re.compile(r"Expected a dot import path string: (\S+)|Import path (\S+) does not")
IMPORT = re.compile(r"with given class_path '([\w.]+)':\s+((?:No module|module|cannot) .*)")
STRANGE = re.compile(r"Import path does not correspond to a subclass of (\w+)")
AMBIGUOUS = re.compile(r"full class path to avoid ambiguity: ([\w., ]+)\.")
OPTION = re.compile(r"(?:Option|- unknown key) '([^']+)'")
CLASS_PATH = re.compile(r"class_path'?[=:] '([\w.]+)'")
UNKNOWN = re.compile(r"unrecognized arguments: --([\w.]+)|does not accept option '([\w.]+)'")
CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")
REQUIRED = re.compile(r"the following arguments are required: (.*)|Key \"([\w.]+)\" is required")
MISSING_FILE = re.compile(r"File does not exist: '([^']+)'")
NO_YAML = ("Problems parsing config", "Unexpected config", "Path is not a file")
# What this module said about a key inside the one that the message is about.
INNER = re.compile(r"^\s*- (\w+(?:\.\w+)*: .*)$", re.MULTILINE)
EXPECTED = re.compile(
    r"Expected an? (?!path|dot import|<class 'NoneType'>)(.+?)(?:\. Got value|$)", re.M
)
GROUP = re.compile(r"Unable to load config (.*)$", re.MULTILINE)
GROUPS = ("model", "data", "trainer")  # of the parser that reads a recipe
HIDDEN = ("help", "print_shtab", "subcommand", "model.optimizer", "model.lr_scheduler")


def explain(message: str, parser: Any) -> str:
    """Turn an error of jsonargparse into a sentence.

    Args:
        message: what jsonargparse said. About a key inside a class it holds what this function
            said before, when the parser of the class failed.
        parser: the parser that said it, whose options are what is allowed.
    """
    options = set(_options(parser))
    whole = options.issuperset(GROUPS)  # the parser of a class knows its own settings alone
    for file in _config_files():
        if said := misspelt(file, options if whole else (), _rooms()):
            return said
    *_, key = ["", *KEY.findall(message)]  # that of a value stands below that of its group
    if found := OPTION.search(message):
        return _unknown_option(found[1], key, CLASS_PATH.search(message))
    if found := AMBIGUOUS.search(message):
        return f"{key}: there are several classes of this name; write one in full: {found[1]}"
    if found := INNER.search(message):
        between = ": " if found[1].startswith("missing: ") else "."
        return found[1] if found[1].startswith(key) else f"{key}{between}{found[1]}"
    if (found := CLASS.search(message)) and (room := _room(key)):
        name = str(found[1] or found[2])
        return f"{key}: unknown class '{name}'{_place(name)}. {nearest(name, subclasses(room))}"
    if found := IMPORT.search(message):
        return (
            f"{key}: cannot import '{found[1]}': {found[2]}. A class of your own is looked for in "
            "what is installed, in PYTHONPATH and in the current folder"
        )
    if found := STRANGE.search(message):
        given = GIVEN.search(message)
        named = f" '{given[1]}'" if given and "{" not in given[1] else " this class"
        return f"{key}:{named} is no {found[1]}"
    if found := UNKNOWN.search(message):
        option = str(found[1] or found[2])
        return f"unknown key '{option}'{_place(option)}. {_nearest_option(option, parser)}"
    if found := CHOICE.search(message):
        choices = re.findall(r"'([^']+)'", found[2])
        return f"'{found[1]}' is not allowed here. {nearest(found[1], choices)}"
    if found := REQUIRED.search(message):
        missing = str(found[1] or found[2]).removeprefix("fit.")
        yaml_too = " or in the YAML of --config" if "config" in _options(parser) else ""
        return f"missing: {missing}. Give it on the command line{yaml_too}"
    if found := MISSING_FILE.search(message):
        folder = Path(found[1]).parent
        beside = [p.name for p in folder.glob("*.yaml")] if folder.is_dir() else []
        return f"--config: no such file: {found[1]}. {nearest(Path(found[1]).name, beside)}"
    if key and (expected := EXPECTED.findall(message)):
        return _wrong_value(key, expected, GIVEN.search(message))
    if any(mark in message for mark in NO_YAML) and (broken := _broken_file()):
        return f"--config: {broken}"
    if found := GROUP.search(message):
        given = short(found[1])
        return f"{key}: {given} is not allowed; expected a mapping of keys to values, or its file"
    if reason := gist(message):
        key = key or _option_of(message, options)
        return f"{key}: {reason}" if key else reason
    return message


def _unknown_option(option: str, key: str, class_path: re.Match[str] | None) -> str:
    if room := _room(key):
        hint = nearest(option, _parameters(room, class_path) - {option})  # another class has it
    else:  # said by the parser of a class, which does not tell its name
        every = {p for base in _rooms().values() for p in _parameters(base, None)}
        hint = nearest(option, every - {option}).split("Allowed:")[0] + "All keys: --help"
    return f"{f'{key}: ' if key else ''}unknown key '{option}'{_place(option)}. {hint}"


def _wrong_value(key: str, expected: list[str], given: re.Match[str] | None) -> str:
    types = [re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", kind) for kind in expected]
    types = [re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", kind) for kind in types]
    value = (
        f" {'null' if given[1] == 'None' else repr(short(given[1]))} is not allowed;"
        if given
        else ""
    )
    allowed = " or ".join(dict.fromkeys(types))
    return f"{key}:{value} expected {allowed}{_place(key.rsplit('.', 1)[-1])}"


def _rooms() -> dict[str, type[Any]]:
    """The base class of what a key names, by the last word of the key."""
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from tuner.data.prompts import Prompt
    from tuner.data.sources import Source
    from tuner.heads import Head

    return {
        "head": Head,
        "source": Source,
        "sources": Source,
        "prompt": Prompt,
        "optimizer": Optimizer,
        "lr_scheduler": LRScheduler,
        "callbacks": Callback,
        "logger": Logger,
    }


def _room(key: str) -> type[Any] | None:
    return _rooms().get(key.rsplit(".", 1)[-1])


def _option_of(message: str, options: Iterable[str]) -> str:
    """The option whose class could not be made, of which the parser tells the kind alone."""
    tried = message.partition("Errors:")[0]
    for option in sorted(options):
        if (room := _room(option)) and f"{room.__module__}.{room.__qualname__}" in tried:
            return option
    return ""


def _parameters(room: type[Any], class_path: re.Match[str] | None) -> set[str]:
    """Keys that the class takes; those of all its kind where the class is not told."""
    classes = subclasses(room)
    name = class_path[1].rsplit(".", 1)[-1] if class_path else ""
    chosen = [classes[name]] if name in classes else list(classes.values())
    return {p for cls in chosen for p in inspect.signature(cls).parameters}


def _options(parser: Any) -> Iterable[str]:
    for action in parser._actions:
        children = getattr(action, "_name_parser_map", None)
        if children:
            for child in children.values():
                yield from _options(child)
        elif action.dest not in HIDDEN and not action.dest.endswith(".help"):
            yield action.dest


def _nearest_option(option: str, parser: Any) -> str:
    """The nearest options, or those of the same group: all of them would fill a screen."""
    options = set(_options(parser))
    group = option.rpartition(".")[0]
    siblings = {name for name in options if name.rpartition(".")[0] == group}
    if group and siblings:
        return nearest(option, siblings)
    return nearest(option, options).split(" Allowed:")[0] + " All keys: --help"


def _config_files() -> list[str]:
    files = [b for a, b in pairwise(sys.argv) if a == "--config"]
    files += [a.removeprefix("--config=") for a in sys.argv if a.startswith("--config=")]
    return [file for file in files if Path(file).is_file() or Path(file).is_dir()]


def _place(word: str) -> str:
    """` (file:line)` of the first config file on the command line that has the word."""
    if any(a.startswith("--") and word in a.split("=")[0] for a in sys.argv):
        return ""  # it stands on the command line itself
    pattern = re.compile(rf"(?<![\w.]){re.escape(word.rsplit('.', 1)[-1])}(?![\w.])")
    for file in filter(os.path.isfile, _config_files()):
        lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            if pattern.search(line.split("#")[0]):
                return f" ({file}:{number})"
    return ""


def _broken_file() -> str | None:
    """What is wrong with the first config file that is no YAML mapping."""
    for file in _config_files():
        if Path(file).is_dir():
            return f"{file} is a folder; name a YAML file in it"
        try:
            if not isinstance(parse(Path(file).read_text(encoding="utf-8")), dict):
                return f"{file}: expected keys such as `trainer:` and their values"
        except UNREADABLE as error:
            return unreadable(file, error)
    return None
