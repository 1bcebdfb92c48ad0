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
    while len(turns) > 2:
        turns = turns[2:]  # a question with its answer, so that the roles still alternate
        if length([*head, *turns]) <= limit:
            return replace(example, messages=(*head, *turns))
    question, reply = turns
    starts = [match.start() for match in WORD.finditer(question.content)]

    def cut(place: int) -> list[Message]:
        return [*head, replace(question, content=question.content[starts[place] :]), reply]

    fits = bisect_left(range(len(starts)), True, key=lambda place: length(cut(place)) <= limit)
    return replace(example, messages=tuple(cut(fits))) if fits < len(starts) else None
