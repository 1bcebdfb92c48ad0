"""Conversations of invented words, for benchmarks that need many rows or rows of some length."""

from __future__ import annotations

import json
import random
from pathlib import Path

SYLLABLES = [c + v for c in "bdfglmnprstvz" for v in ("a", "e", "i", "o", "u", "an", "er", "ing")]
CATEGORIES, INTENTS = 10, 27  # as customer support has them


class Words:
    """Draws words as Zipf's law has them, the same ones each time."""

    def __init__(self, seed: int = 0) -> None:
        self.draw = random.Random(0)
        self.words = [
            "".join(self.draw.choices(SYLLABLES, k=self.draw.randint(1, 4))) for _ in range(20_000)
        ]
        self.weights = [1 / (rank + 10) for rank in range(len(self.words))]
        if seed:
            self.draw.seed(seed)

    def text(self, shortest: int, longest: int) -> list[str]:
        """From `shortest` to `longest` words."""
        return self.draw.choices(self.words, self.weights, k=self.draw.randint(shortest, longest))


def write_rows(file: Path, count: int, shortest: int = 30, longest: int = 90) -> None:
    """Write conversations; a third of the words of each, by default 30 to 90, is the question."""
    words = Words()
    with file.open("w", encoding="utf-8") as out:
        for number in range(count):
            text = words.text(shortest, longest)
            ask, reply = " ".join(text[: len(text) // 3]), " ".join(text[len(text) // 3 :])
            row = {"prompt": f"{ask}?", "completion": f"{reply}.", "n": number}
            row |= {"category": f"c{number % CATEGORIES}", "intent": f"i{number % INTENTS}"}
            out.write(json.dumps(row) + "\n")
