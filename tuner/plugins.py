"""Plug-in rooms: a file in the folder is found by being there."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from typing import TypeVar

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
