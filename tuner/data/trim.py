"""Make a conversation fit a length without touching its reply."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace

from tuner.data.example import Example, Message

WORD = re.compile(r"\S+")


def trim(
    example: Example, limit: int, length: Callable[[Sequence[Message]], int]
) -> Example | None:
    """Leave out the oldest turns, then the beginning of the last question, word by word.

    System turn, header and reply stay whole, and the reply keeps its end.

    Args:
        example: a conversation that is too long.
        limit: tokens it may have.
        length: tokens of a conversation.

    Returns:
        The shorter conversation; None when the reply alone is too long.
    """
    head = [m for m in example.messages[:1] if m.role == "system"]
    turns = list(example.messages[len(head) :])
    # A question goes with its answer, so that the roles still alternate.
    shorter = [turns[first:] for first in range(2, len(turns), 2)]
    fits = bisect_left(shorter, True, key=lambda rest: length([*head, *rest]) <= limit)
    if fits < len(shorter):
        return replace(example, messages=(*head, *shorter[fits]))
    question, reply = turns[-2:]
    starts = [match.start() for match in WORD.finditer(question.content)]

    def cut(place: int) -> list[Message]:
        return [*head, replace(question, content=question.content[starts[place] :]), reply]

    fits = bisect_left(range(len(starts)), True, key=lambda place: length(cut(place)) <= limit)
    return replace(example, messages=tuple(cut(fits))) if fits < len(starts) else None


def shorten(example: Example, turns: int, characters: int) -> Example | None:
    """Cut a conversation to what could fit at all, so that tokenising it takes no minutes.

    Args:
        example: a conversation of too many turns or characters.
        turns: messages that may be left.
        characters: that its last question may have left.

    Returns:
        The shorter conversation, still too long perhaps; None when reply or system turn alone have
        too many characters.
    """
    head = [m for m in example.messages[:1] if m.role == "system"]
    rest = list(example.messages[len(head) :])
    rest = rest[max(len(rest) - turns, 0) // 2 * 2 :]
    while len(rest) > 2 and sum(len(m.content) for m in rest) > characters:
        rest = rest[2:]
    question, reply = rest[-2:]
    if len(reply.content) + sum(len(m.content) for m in head) > characters:
        return None
    rest[-2] = replace(question, content=question.content[-characters:])
    return replace(example, messages=(*head, *rest))
