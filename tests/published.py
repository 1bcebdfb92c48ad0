"""Small files in the form of the published sets; every row is invented."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

NOUNS = (
    "kettle", "garden", "winter", "bridge", "violin", "market", "river", "candle", "engine",
    "pencil", "basket", "ladder", "ticket", "mirror", "blanket", "window", "pocket", "saddle",
    "lantern", "button", "carpet", "hammer", "island", "jacket", "kitchen", "letter", "meadow",
    "needle", "orchard", "pillow", "quarry", "ribbon", "shadow", "teapot", "umbrella", "valley",
    "wagon", "harbour", "anchor",
)  # fmt: skip
INTENTS = ("track_order", "cancel_order", "get_refund", "change_address")


def _text(draw: random.Random, count: int) -> str:
    """English enough for its filter, and unlike the others."""
    words = draw.sample(NOUNS, count)
    return f"is the {words[0]} of my {' '.join(words[1:])} there"


def write_sets(folder: Path, count: int = 60) -> dict[str, str]:
    """Writes a file for each source that reads a published set.

    Returns:
        The path of each file by the name of the class that reads it.
    """
    draw = random.Random(0)
    pairs = [(_text(draw, 7), _text(draw, 9)) for _ in range(count)]
    tweets: list[list[object]] = []
    for n, (a, b) in enumerate(pairs):
        tweets.append([2 * n + 1, 900 + n, True, f"@AcmeHelp {a}, please?", ""])
        tweets.append([2 * n + 2, "AcmeHelp", False, f"@{900 + n} Yes, {b}.", 2 * n + 1])
    tables: dict[str, tuple[list[str], list[list[object]]]] = {
        "Bitext": (
            ["flags", "instruction", "category", "intent", "response"],
            [["B", a, "ORDER", INTENTS[n % 4], b] for n, (a, b) in enumerate(pairs)],
        ),
        "MedQuAD": (
            ["qtype", "Question", "Answer"],
            [["information", f"What {a} ?", f"It {b}."] for a, b in pairs],
        ),
        "TwitterSupport": (
            ["tweet_id", "author_id", "inbound", "text", "in_response_to_tweet_id"],
            tweets,
        ),
    }
    files = {name: folder / f"{name}.csv" for name in tables} | {"Dolly": folder / "dolly.jsonl"}
    for name, (head, rows) in tables.items():
        with files[name].open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([head, *rows])
    keys = ("instruction", "context", "response", "category")
    dolly = [dict(zip(keys, (f"Write an email: {a}", "", b, "qa"), strict=True)) for a, b in pairs]
    files["Dolly"].write_text("".join(json.dumps(row) + "\n" for row in dolly), encoding="utf-8")
    return {name: str(file) for name, file in files.items()}
