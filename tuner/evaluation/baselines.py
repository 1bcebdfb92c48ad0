"""Systems that need no training: what a tuned model has to beat to be worth it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tuner.data.example import Message, fraction
from tuner.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tuner.data.example import Example


def majority(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """Answer with the most frequent reply to training rows of the same category.

    A category that training has not seen gets the most frequent reply of all. Of replies that are
    equally frequent, the first in the training data is taken.
    """
    every = Counter(example.reply for example in train)
    within: dict[str, Counter[str]] = {}
    for example in train:
        within.setdefault(example.category, Counter())[example.reply] += 1
    return [within.get(one.category, every).most_common(1)[0][0] for one in test]


def nearest(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """Answer with the reply to the training prompt that shares most with this one.

    Prompts are compared by the cosine of their tf-idf weights over words (Salton and Buckley
    1988); of equally near ones the first in the training data is taken.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    # The last turn decides: rows of a set often share all turns before it.
    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
    known = words.fit_transform([example.prompt[-1].content for example in train] + ["a"])[:-1]
    asked = words.transform([example.prompt[-1].content for example in test])
    found: list[str] = []
    for start in range(0, len(test), 256):  # a block of the table of all pairs at a time
        closeness = (asked[start : start + 256] @ known.T).toarray()
        found += [train[int(place)].reply for place in closeness.argmax(axis=1)]
    return found


BASELINES: dict[str, Callable[[Sequence[Example], Sequence[Example]], list[str]]] = {
    "majority": majority,
    "nearest": nearest,
}


def shots(
    train: Sequence[Example], count: int, *, seed: int, fits: Callable[[Sequence[Message]], bool]
) -> tuple[Message, ...]:
    """Training rows to put before each prompt of the base, as turns that have been answered.

    Args:
        train: rows with one question and its reply are drawn from.
        count: rows to draw.
        seed: of the draw, which depends on nothing else.
        fits: whether such turns leave room for the prompts behind them.

    Raises:
        UserError: too few rows fit.
    """
    chosen: tuple[Message, ...] = ()
    left = count
    for example in sorted(train, key=lambda one: (fraction(seed, one.id), one.id)):
        turns = tuple(turn for turn in example.messages if turn.role != "system")
        if left and len(turns) == 2 and fits((*chosen, *turns)):
            chosen, left = (*chosen, *turns), left - 1
    if left:
        raise UserError(
            f"--few_shot: only {count - left} training rows fit before the prompts; ask for fewer"
        )
    return chosen


def with_shots(prompt: Sequence[Message], turns: Sequence[Message]) -> tuple[Message, ...]:
    """The prompt with answered turns behind its system message."""
    first = 1 if prompt and prompt[0].role == "system" else 0
    return (*prompt[:first], *turns, *prompt[first:])
