"""Near duplicates are found behind a text that very many rows share."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tuner.data.curate import Curated
from tuner.data.curation import Curation
from tuner.data.datamodule import ConversationData
from tuner.data.sources.conversations import Conversations

INSTRUCTION = (
    "You are a patient assistant of a small shop for gardens. Answer the question of the customer "
    "below in two short sentences, name the page where more can be found, and never promise a date."
)


def questions(count: int) -> list[str]:
    draw = random.Random(4)
    syllables = ["ba", "do", "ke", "li", "mu", "ner", "pas", "rit", "sol", "tav"]
    words = ["".join(draw.choices(syllables, k=3)) for _ in range(400)]
    return [" ".join(draw.choices(words, k=9)) for _ in range(count)]


def swapped(text: str) -> str:
    return text[:7] + text[8] + text[7] + text[9:]


def prepare(write: Any, tokenizer: Any, rows: list[Any], **rules: Any) -> Curated:
    data = ConversationData(
        Conversations(write("a.jsonl", rows)),
        val_size=0,
        test_size=0.3,
        max_length=512,
        curation=Curation(**rules),
    )
    return data.prepare(tokenizer)


def straddling(found: Curated) -> int:
    """Pairs of which one side is learned and the other tested."""
    homes: dict[int, set[str]] = {}
    for name, part in found.splits.items():
        for example in part:
            homes.setdefault(int(example.meta["pair"]), set()).add(name)
    return sum(len(home) > 1 for home in homes.values())


@pytest.mark.parametrize("shape", ["system", "instruction", "plain"])
def test_typos_behind_a_shared_text_never_straddle(shape: str, write: Any, pico: Any) -> None:
    rows: list[Any] = []
    for pair, text in enumerate(questions(80)):
        for side, ask in enumerate((text, swapped(text))):
            reply = f"reply {pair} {side}"
            row: dict[str, Any] = {"pair": pair, "group": f"{pair} {side}"}
            if shape == "system":
                turns = [("system", INSTRUCTION), ("user", ask), ("assistant", reply)]
                row["messages"] = [{"role": r, "content": c} for r, c in turns]
            elif shape == "instruction":
                row |= {"instruction": INSTRUCTION, "input": ask, "output": reply}
            else:
                row |= {"prompt": ask, "completion": reply}
            rows.append(row)
    grouped = prepare(write, pico, rows)
    assert straddling(grouped) == 0
    assert 20 <= len(grouped.splits["test"]) <= 80
    assert bool(grouped.account["flagged"].get("template_rows")) == (shape != "plain")
    assert grouped.account["leak_check"]["contaminated"] == 0
    kept = prepare(write, pico, rows, near_duplicates="keep", allow=("leaks",))
    assert straddling(kept) > 20
    leaks = kept.account["leak_check"]
    assert leaks["near_duplicates_in_train"] >= straddling(kept)


def test_many_variants_of_one_question_stay_together(write: Any, pico: Any) -> None:
    ask = "Where can I see how far the parcel with my new garden lamp has come today?"
    draw = random.Random(1)
    variants: list[str] = []
    for _ in range(40):
        place = draw.randrange(len(ask) - 1)
        variants.append(ask[:place] + draw.choice("aeiou") + ask[place + 1 :])
    rows = [{"prompt": text, "completion": f"a{n}", "pair": 0} for n, text in enumerate(variants)]
    rows += [
        {"prompt": text, "completion": f"b{n}", "pair": n + 1}
        for n, text in enumerate(questions(100))
    ]
    assert straddling(prepare(write, pico, rows)) == 0


def test_numbers_in_a_fixed_sentence_are_told_apart(write: Any, pico: Any) -> None:
    """Nothing but a number differs in all rows: to keep them together would leave no split."""
    rows = [
        {
            "prompt": f"What do you know of item {n} in our list?",
            "completion": f"{n}",
            "pair": n,
        }
        for n in range(60)
    ]
    found = prepare(write, pico, rows, allow=("leaks",))
    assert all(found.splits[name] for name in ("train", "test"))


def test_equal_last_words_of_other_conversations_are_no_leak(write: Any, pico: Any) -> None:
    rows: list[Any] = []
    for pair, text in enumerate(questions(60)):
        turns = ["user", text], ["assistant", f"Yes, {pair}."], ["user", "Thank you!"]
        messages = [{"role": r, "content": c} for r, c in (*turns, ("assistant", "Bye."))]
        rows.append({"messages": messages, "pair": pair})
    found = prepare(write, pico, rows)
    assert found.account["leak_check"]["contaminated"] == 0
