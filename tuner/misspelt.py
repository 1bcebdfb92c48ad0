"""The key of a recipe that no option has: where it stands, and what was meant."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path

import yaml

from tuner.errors import nearest

CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")
Strange = tuple[yaml.Node, str, Collection[str]]  # where, its full name, and those allowed there


def misspelt(file: str, options: Collection[str], classes: Collection[str]) -> str | None:
    """Say which key of a file is unknown; null where all are known, or the file is no YAML.

    The parser names the value that it cannot place, which may be one far inside the key that is
    misspelt, and not the place of either.

    Args:
        file: a recipe.
        options: full names of all options, such as `data.batch_size`; none where they are not
            known, and only the keys of a class are looked at.
        classes: last words of the options whose value names a class with its settings.
    """
    try:
        root = yaml.compose(Path(file).read_text(encoding="utf-8"), yaml.SafeLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    found = next(_in_group(root, "", options, classes), None)
    if found is None:
        return None
    node, name, allowed = found
    return f"unknown key '{name}' ({file}:{node.start_mark.line + 1}). {nearest(name, allowed)}"


def _in_group(
    node: yaml.Node | None, prefix: str, options: Collection[str], classes: Collection[str]
) -> Iterator[Strange]:
    """The unknown keys of a group of options and of the groups in it."""
    inside = [name[len(prefix) :] for name in options if name.startswith(prefix)]
    if options and not inside:  # the value of an option
        return
    for key, value in _items(node):
        known = {prefix + name.partition(".")[0] for name in inside}
        name = f"{prefix}{key.value}"
        if options and name not in known and name not in options:
            yield key, name, known
        elif key.value in classes:
            yield from _in_class(value, name, classes)
        else:
            yield from _in_group(value, f"{name}.", options, classes)


def _in_class(node: yaml.Node, name: str, classes: Collection[str]) -> Iterator[Strange]:
    """Misspelt `class_path` and `init_args` of a class, or of a list of them."""
    if isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _in_class(one, name, classes)
    for key, value in _items(node):
        if key.value not in CLASS_KEYS and get_close_matches(str(key.value), CLASS_KEYS):
            yield key, f"{name}.{key.value}", {f"{name}.{one}" for one in CLASS_KEYS[:2]}
        for setting, inner in _items(value) if key.value == "init_args" else ():
            if setting.value in classes:
                yield from _in_class(inner, f"{name}.{setting.value}", classes)


def _items(node: yaml.Node | None) -> list[tuple[yaml.Node, yaml.Node]]:
    return node.value if isinstance(node, yaml.MappingNode) else []
