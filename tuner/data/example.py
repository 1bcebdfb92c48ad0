"""The one record that travels through curation, training and evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# What a comparison is sliced by, beside the category, where the meta of examples has it: the
# annotators' words, the intent, the part of a mixture, and whether training has seen the question.
SLICES = ("seen", "part", "kind", "intent", "sentiment", "priority")

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def as_dict(self) -> dict[str, str]:
        """The form that chat templates take."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation; the last message is the assistant's reply that is scored in evaluation.

    Attributes:
        messages: the turns in order.
        group: rows of a group never straddle a split (intent family, thread, document).
        category: what evaluation slices by; empty when the set has none.
        meta: anything else worth keeping (intent, source row, ...): plain JSON values.
    """

    messages: tuple[Message, ...]
    group: str
    category: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def id(self) -> str:
        """Stable name of the conversation: 16 hexadecimal digits of the SHA-256 of its turns."""
        return digest([[m.role, m.content] for m in self.messages])

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All turns before the reply."""
        return self.messages[:-1]

    @property
    def reply(self) -> str:
        """What the assistant says last."""
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Rejected:
    """A malformed row, which could not become an example: why, and where it stands."""

    reason: str
    where: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that its source passes over on purpose: why, and where it stands."""

    reason: str
    where: str


Item = Example | Rejected | Skipped


def digest(value: object) -> str:
    """16 hexadecimal digits of the SHA-256 of a JSON value: the same on every machine."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def fraction(seed: int, name: str) -> float:
    """A uniform draw from [0, 1) that depends on nothing but `seed` and `name`."""
    return int(digest([seed, name]), 16) / 2**64
