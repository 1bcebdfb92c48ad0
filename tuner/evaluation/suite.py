"""Suites: curated prompts in a YAML, with references, expectations and a rubric for raters.

description: What the suite is.
rubric: {tone: The reply is polite.}
system: A system message before every item that has none.
metrics: [rougeL]
items:
  - id: refund
    category: payment
    prompt: Where is my refund?
    reference: It is on its way.
    expects: {decline: "no"}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import yaml

from tuner.data.example import ROLES, Example, Message
from tuner.errors import UserError, nearest

SUITES = Path(__file__).parents[2] / "configs" / "suites"
KEYS = ("description", "rubric", "system", "metrics", "items")
ITEM_KEYS = ("id", "category", "prompt", "messages", "reference", "expects")
EXPECTS = {"decline": ("yes", "no"), "format": ("docstring", "email", "json")}


@dataclass(frozen=True)
class Suite:
    """Curated prompts to compare systems on.

    Attributes:
        name: stem of the file.
        description: what the suite is, for reports.
        rubric: what raters judge a reply by: name -> one sentence.
        metrics: metrics to compute beside the general ones.
        examples: one for each item, in order. The last message is the reference, empty where an
            item has none; each is a group of its own; meta has the item's id as `item`, and as
            `expects` what is expected of a reply: `decline` (yes or no), `format`.
        sha256: of the content; comments and layout do not count.
    """

    name: str
    description: str
    rubric: Mapping[str, str]
    metrics: tuple[str, ...]
    examples: tuple[Example, ...]
    sha256: str


def load_suite(name_or_path: str | Path) -> Suite:
    """Read a suite: a bare name is one of configs/suites, anything else the path of a YAML file.

    Raises:
        UserError: there is no such suite, or its content does not fit; names file and item.
    """
    path = _find(name_or_path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"--suite: cannot read {path}: {error}") from error
    top = _mapping(content, KEYS, f"{path}")
    rubric = _mapping(top.get("rubric") or {}, None, f"{path}: rubric")
    rubric = {key: _text(rubric, key, f"{path}: rubric") for key in rubric}
    metrics = _list(top.get("metrics") or [], f"{path}: metrics")
    if not all(isinstance(metric, str) for metric in metrics):
        raise UserError(f"{path}: metrics: must be names of metrics")
    system = _text(top, "system", f"{path}") if "system" in top else None
    examples: dict[str, Example] = {}
    for place, raw in enumerate(_list(top.get("items"), f"{path}: items"), start=1):
        named = raw.get("id") if isinstance(raw, dict) else None
        where = f"{path}: item {place}" + (f" '{named}'" if isinstance(named, str) else "")
        example = _example(raw, system, where)
        item = example.group
        if item in examples:
            raise UserError(f"{where}: another item has this id")
        same = [other for other, known in examples.items() if known.id == example.id]
        if same:
            raise UserError(f"{where}: has the same messages and reference as '{same[0]}'")
        examples[item] = example
    if not examples:
        raise UserError(f"{path}: items: is empty; a suite needs at least one item")
    described = _text(top, "description", f"{path}") if "description" in top else ""
    turns = [
        [item, e.category, [m.as_dict() for m in e.messages], e.meta["expects"]]
        for item, e in examples.items()
    ]
    whole = json.dumps([described, rubric, metrics, turns], ensure_ascii=False)
    return Suite(
        name=path.stem,
        description=described,
        rubric=rubric,
        metrics=tuple(metrics),
        examples=tuple(examples.values()),
        sha256=hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest(),
    )


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path).expanduser()
    if isinstance(name_or_path, str) and path.name == name_or_path and not path.suffix:
        shipped = {file.stem: file for file in SUITES.glob("*.yaml")}
        if name_or_path in shipped:
            return shipped[name_or_path]
        raise UserError(
            f"--suite: no suite is named '{name_or_path}'. {nearest(name_or_path, shipped)} "
            "Or give the path of a YAML file"
        )
    return path


def _example(raw: object, system: str | None, where: str) -> Example:
    item = _mapping(raw, ITEM_KEYS, where)
    if "id" not in item:
        raise UserError(f"{where}: has no id")
    name = _text(item, "id", where)
    if ("prompt" in item) == ("messages" in item):
        given = "both prompt and messages" if "prompt" in item else "neither prompt nor messages"
        raise UserError(f"{where}: has {given}; give one of the two")
    if "prompt" in item:
        messages = [Message("user", _text(item, "prompt", where))]
    else:
        messages = _messages(_list(item["messages"], f"{where}: messages"), where)
    if system is not None and messages[0].role != "system":
        messages = [Message("system", system), *messages]
    reference = _text(item, "reference", where) if "reference" in item else ""
    return Example(
        messages=(*messages, Message("assistant", reference)),
        group=name,
        category=_text(item, "category", where) if "category" in item else "",
        meta={"item": name, "expects": _expects(item.get("expects") or {}, where)},
    )


def _messages(turns: list[Any], where: str) -> list[Message]:
    messages: list[Message] = []
    for place, raw in enumerate(turns, start=1):
        at = f"{where}: message {place}"
        turn = _mapping(raw, ("role", "content"), at)
        if missing := {"role", "content"} - turn.keys():
            raise UserError(f"{at}: has no {' and no '.join(sorted(missing))}")
        role = _text(turn, "role", at)
        if role not in ROLES:
            raise UserError(f"{at}: unknown role '{role}'. {nearest(role, ROLES)}")
        messages.append(Message(role, _text(turn, "content", at)))
    spoken = [m.role for m in messages if m.role != "system"]
    if any(m.role == "system" for m in messages[1:]):
        raise UserError(f"{where}: messages: a system message can only be the first")
    if not spoken or messages[-1].role != "user":
        raise UserError(f"{where}: messages: the last one must be the user's, which is answered")
    if spoken[0] != "user" or any(one == two for one, two in pairwise(spoken)):
        raise UserError(f"{where}: messages: user and assistant must take turns, the user first")
    return messages


def _expects(raw: object, where: str) -> dict[str, str]:
    expects = _mapping(raw, tuple(EXPECTS), f"{where}: expects")
    found: dict[str, str] = {}
    for key, value in expects.items():
        if isinstance(value, bool):  # YAML reads a bare yes or no as a truth value
            value = "yes" if value else "no"
        if value not in EXPECTS[key]:
            raise UserError(
                f"{where}: expects.{key}: unknown value '{value}'. "
                f"{nearest(str(value), EXPECTS[key])}"
            )
        found[key] = value
    return found


def _mapping(raw: object, allowed: tuple[str, ...] | None, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise UserError(f"{where}: must be a mapping of keys to values, not {_kind(raw)}")
    found = cast("dict[Any, Any]", raw)
    for key in found:
        if not isinstance(key, str):
            raise UserError(f"{where}: the key {key!r} must be text; put it in quotes")
        if allowed is not None and key not in allowed:
            raise UserError(f"{where}: unknown key '{key}'. {nearest(key, allowed)}")
    return found


def _list(raw: object, where: str) -> list[Any]:
    if not isinstance(raw, list):
        raise UserError(f"{where}: must be a list, not {_kind(raw)}")
    return cast("list[Any]", raw)


def _text(mapping: dict[str, Any], key: str, where: str) -> str:
    value = mapping[key]
    if not isinstance(value, str):
        raise UserError(f"{where}: {key}: must be text, not {_kind(value)}; put it in quotes")
    if not value.strip():
        raise UserError(f"{where}: {key}: is empty")
    return value.strip()


def _kind(value: object) -> str:
    names = {"NoneType": "empty", "dict": "a mapping", "list": "a list", "str": "text"}
    kind = type(value).__name__
    return names.get(kind, f"{value!r} ({kind})")


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML would drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See the base class."""
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' stands twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)
