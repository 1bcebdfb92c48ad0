"""The argument parser of every command: errors become one clear message."""

from __future__ import annotations

from enum import Enum
from typing import Any

import yaml
from jsonargparse import Namespace
from jsonargparse import _typehints as typehints
from jsonargparse._actions import (
    _ActionConfigLoad as Group,  # pyright: ignore[reportPrivateUsage]
)
from jsonargparse._actions import (
    _ActionPrintConfig as PrintConfig,  # pyright: ignore[reportPrivateUsage]
)
from lightning.pytorch.cli import LightningArgumentParser

from tuner.errors import UserError
from tuner.messages import explain
from tuner.private import without_secrets
from tuner.written import UNREADABLE, mapping, parse, unreadable


class Parser(LightningArgumentParser):
    """Raises `UserError` with a nearest match instead of printing its usage and exiting."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **options)  # a cut name is a misspelt one

    def dump(self, *args: Any, **options: Any) -> str:
        """See the base class; where it is printed (`--print_config`), it shows no secret."""
        text = super().dump(*args, **options)
        return without_secrets(text) if PrintConfig.is_print_config_requested(self) else text

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Translate what jsonargparse found.

        Raises:
            UserError: always.
        """
        raise UserError(explain(message, self)) from ex

    def validate(self, namespace: Any, *args: Any, **options: Any) -> None:
        """See the base class, which takes null for every option.

        Raises:
            TypeError: a value does not fit.
        """
        super().validate(namespace, *args, **options)
        for action in self._actions:
            # Where null is the default it is what the option means without a value.
            if action.default is not None and namespace.get(action.dest, "") is None:
                self._check_value_key(action, None, action.dest, namespace)

    def _check_value_key(self, action: Any, value: Any, *args: Any, **options: Any) -> Any:
        """See the base class, which takes anything for a group of options.

        Raises:
            UserError: it is no mapping, nor the name of a file that holds one.
        """
        if isinstance(action, Group):
            if value is None:  # a section whose keys are all commented out: as if it were not there
                return Namespace()
            if not isinstance(value, str | Namespace):
                mapping(value, None, action.dest)
        return super()._check_value_key(action, value, *args, **options)

    def parse_path(self, path: Any, *args: Any, **options: Any) -> Any:
        """See the base class.

        Raises:
            UserError: the file is no YAML.
        """
        try:
            return super().parse_path(path, *args, **options)
        except UNREADABLE as error:
            raise UserError(f"--config: {unreadable(path, error)}") from error

    def parse_string(self, content: str, *args: Any, **options: Any) -> Any:
        """See the base class, which drops the first of two equal keys and follows every alias.

        Raises:
            YAMLError: it is no YAML.
            UserError: it names another file.
        """
        tree = parse(content)
        if isinstance(tree, dict) and "config" in tree:
            raise UserError("config: a recipe names no other; give --config once for each of them")
        return super().parse_string(content, *args, **options)


# Lightning has settings that are members of an enumeration, which YAML cannot say as such.
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, one: dumper.represent_data(one.value))


def _forget_settings(parser_or_action: Any, before: Any, value: Any) -> None:
    """Let another head, source or prompt begin with its own defaults.

    jsonargparse hands on what the class before has under the same name, its defaults as well: VeRA
    would take the rank of LoRA. An optimiser keeps the recipe's rate, as one would expect. Settings
    that are empty are taken as if they were not there.
    """
    if before and before.get("class_path") not in (None, value["class_path"]):
        room = before["class_path"].rsplit(".", 2)[0]
        if before.get("init_args") and room in (
            "tuner.heads",
            "tuner.data.sources",
            "tuner.data.prompts",
        ):
            before["init_args"] = type(before["init_args"])()
    if value.get("init_args", "") is None:
        del value["init_args"]
    _hand_on(parser_or_action, before, value)


_hand_on = typehints.discard_init_args_on_class_path_change
typehints.discard_init_args_on_class_path_change = _forget_settings
