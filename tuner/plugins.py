"""Plug-in rooms: a file in the folder is found by being there."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from tuner.errors import UserError

T = TypeVar("T")


def import_all(package_name: str, path: Iterable[str]) -> None:
    """Import every module of a room, so that its classes can be named in a YAML.

    Args:
        package_name: the room's `__name__`.
        path: the room's `__path__`.
    """
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package_name}.{module.name}")


def subclasses(base: type[T]) -> dict[str, type[T]]:
    """All concrete, public subclasses of `base` that are imported, by class name, in order."""
    found: dict[str, type[T]] = {}
    queue = [base]
    while queue:
        for child in queue.pop().__subclasses__():
            queue.append(child)
            if not inspect.isabstract(child) and not child.__name__.startswith("_"):
                found[child.__name__] = child
    return dict(sorted(found.items()))


def settings_of(value: Any) -> Any:
    """The class and constructor arguments of an object that a YAML can name, as JSON values.

    Raises:
        UserError: its class does not keep an argument in an attribute of the same name.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, list | tuple):
        return [settings_of(item) for item in value]
    if isinstance(value, dict):
        return {str(key): settings_of(item) for key, item in value.items()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    path = f"{type(value).__module__}.{type(value).__qualname__}"
    names = list(inspect.signature(type(value)).parameters)
    for name in names:
        if not hasattr(value, name):
            raise UserError(
                f"{path} must keep its argument '{name}' as self.{name}, so that data card, cache "
                "and exported adapter can say what was used"
            )
    return {"class_path": path, "init_args": {n: settings_of(getattr(value, n)) for n in names}}
