"""Plain words for what the config parser found: what, where, what is allowed, the nearest match."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tuner.errors import nearest
from tuner.plugins import subclasses

KEY = re.compile(r'Parser key "([\w.+]+)"')
CLASS = re.compile(r"Expected a dot import path string: (\S+)|Import path (\S+)")
AMBIGUOUS = re.compile(r"full class path to avoid ambiguity: ([\w., ]+)\.")
OPTION = re.compile(r"Option '([^']+)' is not accepted")
CLASS_PATH = re.compile(r"class_path'?[=:] '([\w.]+)'")
UNKNOWN = re.compile(r"unrecognized arguments: --([\w.]+)|does not accept option '([\w.]+)'")
CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")
REQUIRED = re.compile(r"the following arguments are required: (.*)|Key \"([\w.]+)\" is required")
MISSING_FILE = re.compile(r"File does not exist: '([^']+)'")
EXPECTED = re.compile(r"^\s*-? ?(Expected (?!a <class 'NoneType'>).*)$", re.MULTILINE)
HIDDEN = ("help", "print_shtab", "subcommand", "model.optimizer", "model.lr_scheduler")
GIVEN = re.compile(r"^\s*Given value: (.*)$", re.MULTILINE)


def explain(message: str, parser: Any) -> str:
    """Turn an error of jsonargparse into a sentence.

    Args:
        message: what jsonargparse said.
        parser: the parser that said it, whose options are what is allowed.
    """
    found = KEY.search(message)
    key = found[1] if found else ""
    if found := OPTION.search(message):
        option = found[1]
        allowed = _parameters(key, CLASS_PATH.search(message))
        if allowed:
            return f"{key}: unknown key '{option}'{_place(option)}. {nearest(option, allowed)}"
    if found := AMBIGUOUS.search(message):
        return f"{key}: there are several classes of this name; write one in full: {found[1]}"
    if found := CLASS.search(message):
        name = str(found[1] or found[2])
        return f"{key}: unknown class '{name}'{_place(name)}. {nearest(name, _classes(key))}"
    if found := UNKNOWN.search(message):
        option = str(found[1] or found[2])
        return f"unknown key '{option}'{_place(option)}. {_nearest_option(option, parser)}"
    if found := CHOICE.search(message):
        choices = re.findall(r"'([^']+)'", found[2])
        return f"'{found[1]}' is not allowed here. {nearest(found[1], choices)}"
    if found := REQUIRED.search(message):
        missing = str(found[1] or found[2]).removeprefix("fit.")
        return f"missing: {missing}. Give it on the command line or in the YAML of --config"
    if key and (expected := EXPECTED.findall(message)):
        given = GIVEN.search(message)
        value = f" {given[1]!r} is not allowed;" if given else ""
        what = re.sub(r"an? <class '(\w+)'>", r"\1", "; or ".join(dict.fromkeys(expected)))
        return f"{key}:{value} {what[0].lower()}{what[1:]}{_place(key.rsplit('.', 1)[-1])}"
    if found := MISSING_FILE.search(message):
        folder = Path(found[1]).parent
        beside = [p.name for p in folder.glob("*.yaml")] if folder.is_dir() else []
        return f"--config: no such file: {found[1]}. {nearest(Path(found[1]).name, beside)}"
    return message


def _room(key: str) -> type[Any] | None:
    """The base class of what a key names, by the last word of the key."""
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from tuner.data.prompts import Prompt
    from tuner.data.sources import Source
    from tuner.heads import Head

    rooms = {
        "head": Head,
        "source": Source,
        "sources": Source,
        "prompt": Prompt,
        "optimizer": Optimizer,
        "lr_scheduler": LRScheduler,
    }
    return rooms.get(key.rsplit(".", 1)[-1])


def _classes(key: str) -> list[str]:
    room = _room(key)
    return [] if room is None else list(subclasses(room))


def _parameters(key: str, class_path: re.Match[str] | None) -> set[str]:
    """Keys that the class under `key` takes; those of all its kind where the class is not told."""
    room = _room(key)
    if room is None:
        return set()
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
        elif action.dest not in HIDDEN:
            yield action.dest


def _nearest_option(option: str, parser: Any) -> str:
    """The nearest options, or those of the same group: all of them would fill a screen."""
    options = set(_options(parser))
    group = option.rpartition(".")[0]
    siblings = {name for name in options if name.rpartition(".")[0] == group}
    if group and siblings:
        return nearest(option, siblings)
    return nearest(option, options).split(" Allowed:")[0] + " All keys: --help"


def _place(word: str) -> str:
    """` (file:line)` of the first config file on the command line that has the word."""
    arguments = sys.argv
    if any(a.startswith("--") and word in a.split("=")[0] for a in arguments):
        return ""  # it stands on the command line itself
    files = [b for a, b in pairwise(arguments) if a == "--config"]
    files += [a.removeprefix("--config=") for a in arguments if a.startswith("--config=")]
    pattern = re.compile(rf"(?<![\w.]){re.escape(word.rsplit('.', 1)[-1])}(?![\w.])")
    for file in files:
        if Path(file).is_file():
            lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
            for number, line in enumerate(lines, start=1):
                if pattern.search(line.split("#")[0]):
                    return f" ({file}:{number})"
    return ""
