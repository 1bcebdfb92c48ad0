"""YAML that people write: read strictly, and what does not fit is told with its place."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import yaml

from tuner.errors import UserError, nearest

MOST_VALUES = 1_000_000  # of one file
UNREADABLE = (ValueError, RecursionError, yaml.YAMLError)  # what a file that is no YAML raises


def load(path: Path, option: str) -> object:
    """The content of a YAML file.

    Args:
        path: of the file.
        option: what named it, for the message.

    Raises:
        UserError: it cannot be read, is no YAML, has a key twice, or aliases that stand for more
            than anybody writes.
    """
    try:
        refuse_device(path, option)
        return parse(path.read_text(encoding="utf-8-sig"))
    except (OSError, *UNREADABLE) as error:
        raise UserError(f"{option}: {unreadable(path, error)}") from error


def parse(content: str) -> object:
    """What a YAML says.

    Raises:
        YAMLError: it is no YAML, has a key twice, or aliases that stand for more than anybody
            writes.
        RecursionError: it is nested too deeply.
    """
    return yaml.load(content, _Loader)


def unreadable(path: object, error: Exception) -> str:
    """Say where in a file what is wrong, in one line.

    Args:
        path: of the file.
        error: one of `UNREADABLE`, or the system's.
    """
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"{path}:{mark.line + 1}: no valid YAML: {getattr(error, 'problem', error)}"
    return f"cannot read {path}: {error}"


def refuse_device(path: Path, option: str) -> None:
    """Refuse a device as a file to read: some have no end.

    Raises:
        UserError: it is one.
    """
    if path.is_char_device() or path.is_block_device():
        raise UserError(f"{option}: {path} is a device; name a file")


def mapping(raw: object, allowed: Iterable[str] | None, where: str) -> dict[str, Any]:
    """A mapping whose keys are text.

    Args:
        raw: what was read.
        allowed: its keys; any when null.
        where: file and key, for the message.

    Raises:
        UserError: it is none, or has another key.
    """
    if not isinstance(raw, dict):
        raise UserError(f"{where}: must be a mapping of keys to values, not {kind(raw)}")
    found = cast("dict[Any, Any]", raw)
    for key in found:
        if not isinstance(key, str):
            raise UserError(f"{where}: the key {key!r} must be text; put it in quotes")
        if allowed is not None and key not in allowed:
            raise UserError(f"{where}: unknown key '{key}'. {nearest(key, allowed)}")
    return found


def sequence(raw: object, where: str) -> list[Any]:
    """A list.

    Raises:
        UserError: it is none.
    """
    if not isinstance(raw, list):
        raise UserError(f"{where}: must be a list, not {kind(raw)}")
    return cast("list[Any]", raw)


def text(found: dict[str, Any], key: str, where: str) -> str:
    """The text of a key, without blanks around it.

    Raises:
        UserError: it is none, or empty.
    """
    value = found[key]
    if not isinstance(value, str):
        raise UserError(f"{where}: {key}: must be text, not {kind(value)}; put it in quotes")
    if not value.strip():
        raise UserError(f"{where}: {key}: is empty")
    return value.strip()


def kind(value: object) -> str:
    """What a value is, in words."""
    names = {"NoneType": "empty", "dict": "a mapping", "list": "a list", "str": "text"}
    name = type(value).__name__
    return names.get(name, f"{value!r} ({name})")


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML would drop the first.

    A few lines of aliases of aliases can stand for billions of values, and one may stand within
    what it stands for: whoever writes such a tree out does not come to an end.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.values = 0  # so far, with each alias written out
        self.sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """See the base class."""
        alias, before = self.check_event(yaml.AliasEvent), self.values
        node = super().compose_node(parent, index)
        assert node is not None
        self.values += self.sizes.get(node, MOST_VALUES) if alias else 1
        if self.values > MOST_VALUES:
            said = f"aliases stand for more than {MOST_VALUES:,} values, or for themselves"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark)
        self.sizes.setdefault(node, self.values - before)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See the base class."""
        seen = set[str]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):  # refused by the base class
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)
