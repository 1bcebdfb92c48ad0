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
from os.path import expanduser
from pathlib import Path
from typing import Any

from tuner.data.example import ROLES, Example, Message
from tuner.errors import UserError, nearest
from tuner.written import load, mapping, sequence, text

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
    top = mapping(load(path, "--suite"), KEYS, f"{path}")
    rubric = mapping(top.get("rubric") or {}, None, f"{path}: rubric")
    rubric = {key: text(rubric, key, f"{path}: rubric") for key in rubric}
    metrics = sequence(top.get("metrics") or [], f"{path}: metrics")
    if not all(isinstance(metric, str) for metric in metrics):
        raise UserError(f"{path}: metrics: must be names of metrics")
    system = text(top, "system", f"{path}") if "system" in top else None
    examples: dict[str, Example] = {}
    for place, raw in enumerate(sequence(top.get("items"), f"{path}: items"), start=1):
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
    described = text(top, "description", f"{path}") if "description" in top else ""
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
    path = Path(expanduser(name_or_path))  # of no such user, it stays as it is
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
    item = mapping(raw, ITEM_KEYS, where)
    if "id" not in item:
        raise UserError(f"{where}: has no id")
    name = text(item, "id", where)
    if ("prompt" in item) == ("messages" in item):
        given = "both prompt and messages" if "prompt" in item else "neither prompt nor messages"
        raise UserError(f"{where}: has {given}; give one of the two")
    if "prompt" in item:
        messages = [Message("user", text(item, "prompt", where))]
    else:
        messages = _messages(sequence(item["messages"], f"{where}: messages"), where)
    if system is not None and messages[0].role != "system":
        messages = [Message("system", system), *messages]
    reference = text(item, "reference", where) if "reference" in item else ""
    return Example(
        messages=(*messages, Message("assistant", reference)),
        group=name,
        category=text(item, "category", where) if "category" in item else "",
        meta={"item": name, "expects": _expects(item.get("expects") or {}, where)},
    )


def _messages(turns: list[Any], where: str) -> list[Message]:
    messages: list[Message] = []
    for place, raw in enumerate(turns, start=1):
        at = f"{where}: message {place}"
        turn = mapping(raw, ("role", "content"), at)
        if missing := {"role", "content"} - turn.keys():
            raise UserError(f"{at}: has no {' and no '.join(sorted(missing))}")
        role = text(turn, "role", at)
        if role not in ROLES:
            raise UserError(f"{at}: unknown role '{role}'. {nearest(role, ROLES)}")
        messages.append(Message(role, text(turn, "content", at)))
    spoken = [m.role for m in messages if m.role != "system"]
    if any(m.role == "system" for m in messages[1:]):
        raise UserError(f"{where}: messages: a system message can only be the first")
    if not spoken or messages[-1].role != "user":
        raise UserError(f"{where}: messages: the last one must be the user's, which is answered")
    if spoken[0] != "user" or any(one == two for one, two in pairwise(spoken)):
        raise UserError(f"{where}: messages: user and assistant must take turns, the user first")
    return messages


def _expects(raw: object, where: str) -> dict[str, str]:
    expects = mapping(raw, tuple(EXPECTS), f"{where}: expects")
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
