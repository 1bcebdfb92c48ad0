r"""Your own conversations: a JSONL, JSON, CSV or Parquet file, or any hub set.

{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
{"prompt": "Hi", "completion": "Hello."}
{"instruction": "Greet me", "input": "politely", "output": "Good day."}
{"text": "<|user|>\nHi\n<|assistant|>\nHello."}

`messages` may also be named `conversations`, `conversation`, `dialog`, `dialogue` or `turns`; a
turn may have `from` and `value` (ShareGPT), `speaker` and `text`, or be
`{"user": ..., "assistant": ...}`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Literal, cast

from tuner.data.example import ROLES, Example, Item, Message, Rejected
from tuner.data.reading import PLAIN, Located, Row, read_file
from tuner.data.sources.base import Source, group_of, text_of
from tuner.errors import UserError, nearest
from tuner.visible import visible

Shape = Literal["auto", "messages", "prompt_completion", "instruction", "text"]
ROLE_MARK = re.compile(r"^<\|(system|user|assistant)\|>[ \t]*\n?", re.MULTILINE)
END_MARKS = ("</s>", "<|endoftext|>", "<|im_end|>")
OWN_KEYS = ("group", "category")
LIST_KEYS = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns")
ROLE_KEYS, TEXT_KEYS = ("role", "from", "speaker"), ("content", "value", "text")
ROLE_NAMES = {
    "human": "user",
    "customer": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "agent": "assistant",
    "model": "assistant",
}


class Conversations(Source):
    """A file or hub set of conversations; the shape of a row is told by its keys.

    Optional keys of any row: `group` (rows of a group stay on one side of a split; without it
    equal first questions are a group) and `category` (a slice of the evaluation). Other keys that
    the shape does not use are kept as meta.

    Args:
        path: a JSONL, JSON, CSV or Parquet file.
        limit: use this many examples, drawn at random; all when null.
        seed: seed of that draw.
        revision: branch, tag or commit of the hub data set.
        name: hub data set to read (split `train`) when there is no `path`.
        shape: how to read a row; `auto` tells it by the keys.
        columns: own names of the keys above, such as `{prompt: question, completion: answer}`.
        encoding: of a text file; UTF-8, with or without byte order mark, unless told.
    """

    hint = (
        "Rows may have the keys: messages; prompt and completion; instruction and output or "
        "response; text. Name others with data.source.columns"
    )

    def __init__(
        self,
        path: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        revision: str | None = None,
        name: str | None = None,
        shape: Shape = "auto",
        columns: dict[str, str] | None = None,
        encoding: str = PLAIN,
    ) -> None:
        super().__init__(path, limit, seed, revision)
        if (path is None) == (name is None):
            raise UserError(
                "data.source: Conversations needs either `path` (a file) or `name` (a hub set)"
            )
        self.name = name
        self.shape: Shape = shape
        known = {*OWN_KEYS, *(key for keys in USED_KEYS.values() for key in keys)}
        for key in columns or {}:
            if key not in known:
                raise UserError(f"data.source.columns: unknown key '{key}'. {nearest(key, known)}")
        self.columns = columns
        self._met = set[str]()
        self.encoding = encoding

    def read(self) -> Iterator[Located]:
        """See the base class."""
        return super().read() if self.path is None else read_file(self.path, self.encoding)

    def _items(self) -> Iterator[Item]:
        self._met = set[str]()
        yield from super()._items()
        for own in (self.columns or {}).values():
            if own not in self._met:
                raise UserError(
                    f"data.source.columns: no row has a column '{own}'. {nearest(own, self._met)}"
                )

    def _renamed(self, row: Row) -> Row:
        """The row under the keys of its shape."""
        self._met.update(row)
        columns = self.columns or {}
        kept = {key: value for key, value in row.items() if key not in columns.values()}
        return kept | {key: row[own] for key, own in columns.items() if own in row}

    @property
    def hub_name(self) -> str | None:
        """See the base class."""
        return self.name

    def example(self, row: Row, where: str) -> Example | Rejected:
        """See the base class."""
        if self.columns:
            row = self._renamed(row)
        shape = shape_of(row) if self.shape == "auto" else self.shape
        if shape is None:
            return Rejected(f"unknown_shape({visible(','.join(sorted(row))[:80])})", where)
        messages = READERS[shape](row)
        if isinstance(messages, str):
            return Rejected(messages, where)
        first = next(m.content for m in messages if m.role == "user")
        used = {*USED_KEYS[shape], *OWN_KEYS}
        return Example(
            messages=tuple(messages),
            group=text_of(row, "group") or group_of(first),
            category=text_of(row, "category"),
            meta={k: v for k, v in row.items() if k not in used and _plain(v)} | {"where": where},
        )


def shape_of(row: Row) -> Shape | None:
    """The shape of a row by its keys; None when no shape fits.

    >>> shape_of({"prompt": "Hi", "completion": "Hello."})
    'prompt_completion'
    """
    if any(row.get(key) is not None for key in LIST_KEYS):
        return "messages"
    if "prompt" in row and "completion" in row:
        return "prompt_completion"
    if "instruction" in row and ("output" in row or "response" in row):
        return "instruction"
    if "text" in row:
        return "text"
    return None


def _plain(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)  # NaN is no JSON
    return value is None or isinstance(value, str | int | bool)


def _checked(turns: list[tuple[str, str]]) -> list[Message] | str:
    """Messages of (role, text) pairs, or the reason why they are no conversation."""
    messages: list[Message] = []
    for role, text in turns:
        if role not in ROLES:
            return f"unknown_role({visible(role[:20])})"
        if not text.strip():
            return "no_reply" if role == "assistant" else f"empty_{role}_turn"
        messages.append(Message(role, text.strip()))
    spoken = [m.role for m in messages if m.role != "system"]
    if any(m.role == "system" for m in messages[1:]):
        return "system_turn_not_first"
    if not spoken or spoken[0] != "user":
        return "no_prompt"
    if spoken[-1] != "assistant":
        return "no_reply"
    if any(a == b for a, b in pairwise(spoken)):
        return "turns_do_not_alternate"
    return messages


def _turns(value: object) -> list[tuple[str, str]] | str:
    """(role, text) pairs of a messages list, which a CSV holds as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return "messages_not_a_list"
    if not isinstance(value, list):
        return "messages_not_a_list"
    turns: list[tuple[str, str]] = []
    for turn in cast("list[Any]", value):
        found = _turn(cast("Row", turn)) if isinstance(turn, dict) else None
        if found is None:
            return "message_without_role_and_content"
        turns += found
    return turns


def _turn(turn: Row) -> list[tuple[str, str]] | None:
    """(role, text) of a turn; two of them where it is a question with its answer."""
    role = next((turn[key] for key in ROLE_KEYS if key in turn), None)
    if role is None:
        pairs = [(name, turn[name]) for name in (*ROLES, *ROLE_NAMES) if name in turn]
    else:
        pairs = [(role, next((turn[key] for key in TEXT_KEYS if key in turn), None))]
    if not pairs or not all(isinstance(r, str) and isinstance(c, str | None) for r, c in pairs):
        return None
    return [(ROLE_NAMES.get(name := r.strip().lower(), name), c or "") for r, c in pairs]


def _from_messages(row: Row) -> list[Message] | str:
    turns = _turns(next((row[key] for key in LIST_KEYS if row.get(key) is not None), None))
    return turns if isinstance(turns, str) else _checked(turns)


def _from_prompt_completion(row: Row) -> list[Message] | str:
    turns: list[tuple[str, str]] = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = row.get(key)
        if isinstance(value, list):
            more = _turns(cast("list[Any]", value))
            if isinstance(more, str):
                return more
            turns += more
        else:
            turns.append((role, text_of(row, key)))
    return _checked(turns)


def _from_instruction(row: Row) -> list[Message] | str:
    for one, other in (("input", "context"), ("output", "response")):
        if text_of(row, one) and text_of(row, other):
            return f"both_{one}_and_{other}"
    context = text_of(row, "input") or text_of(row, "context")
    instruction = text_of(row, "instruction")
    if not instruction:
        return "no_prompt"
    prompt = f"{context}\n\n{instruction}" if context else instruction
    reply = text_of(row, "output") or text_of(row, "response")
    return _checked([("user", prompt), ("assistant", reply)])


def _from_text(row: Row) -> list[Message] | str:
    # Splitting on the markers gives ["", role, text, role, text, ...].
    pieces = ROLE_MARK.split(text_of(row, "text"))
    if len(pieces) < 3 or pieces[0].strip():
        return "text_without_role_markers"
    turns: list[tuple[str, str]] = []
    for role, text in zip(pieces[1::2], pieces[2::2], strict=True):
        content = text.strip()
        for mark in END_MARKS:
            content = content.removesuffix(mark).rstrip()
        turns.append((role, content))
    return _checked(turns)


READERS: dict[str, Callable[[Row], list[Message] | str]] = {
    "messages": _from_messages,
    "prompt_completion": _from_prompt_completion,
    "instruction": _from_instruction,
    "text": _from_text,
}
USED_KEYS = {
    "messages": set(LIST_KEYS),
    "prompt_completion": {"prompt", "completion"},
    "instruction": {"instruction", "input", "context", "output", "response"},
    "text": {"text"},
}
