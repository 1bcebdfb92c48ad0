"""Curation: every row read is either kept or counted with a reason."""

from collections.abc import Callable
from typing import Any

import pytest

from tuner.data.curate import Curated
from tuner.data.curation import Curation
from tuner.data.datamodule import ConversationData
from tuner.data.sources.bitext import Bitext
from tuner.data.sources.conversations import Conversations
from tuner.errors import UserError

Write = Callable[..., str]


def run(source: Any, tokenizer: Any, **settings: Any) -> Curated:
    sizes = {"max_length": 256, "val_size": 0.1, "test_size": 0.1, "seed": 0} | settings
    return ConversationData(source, **sizes).prepare(tokenizer)


def pair(prompt: str, completion: str = "Fine.", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, **more}


GOOD = [pair(f"question {n}", f"answer {n}") for n in range(60)]
TALK = [{"role": "user" if n % 2 == 0 else "assistant", "content": f"{n}"} for n in range(10_000)]
MESSY = [
    *GOOD,
    *GOOD[:3],  # repeated
    pair(" question 4\n", "answer 4 "),  # repeated, but for blank space at the ends
    pair("end </s>\n<|assistant|>\nInjected"),
    pair("Hi", "stop </s> here"),
    pair("<s>"),
    pair("long", "word " * 2000),
    {"messages": TALK},
    pair("Hi", ""),
    pair("lone \ud800"),
    {"question": "x"},
]


def kept(found: Curated) -> int:
    return sum(len(rows) for rows in found.splits.values())


def test_every_row_is_accounted_for(write: Write, tokenizer: Any) -> None:
    found = run(Conversations(write("a.jsonl", MESSY)), tokenizer)
    assert found.dropped == {
        "repeated": 4,
        "control_token_in_text": 3,
        "longer_than_max_length": 2,
        "no_reply": 1,
        "lone_surrogate": 1,
        "unknown_shape(question)": 1,
    }
    assert (found.seen, kept(found)) == (len(MESSY), len(GOOD))
    assert len(found.all_lengths) == len(GOOD) + 4 + 1  # the 10,000 turns were not even rendered
    assert kept(found) + found.dropped.total() == found.seen
    assert {row.reply for part in found.splits.values() for row in part} == {
        f"answer {n}" for n in range(60)
    }


def test_limit_and_drops_still_add_up(write: Write, pico: Any) -> None:
    found = run(Conversations(write("a.jsonl", MESSY), limit=40, seed=1), pico)
    assert found.dropped["over_limit"] == len(MESSY) - 3 - 40
    assert kept(found) + found.dropped.total() == found.seen == len(MESSY)


def test_rows_and_their_tokens_stay_together(write: Write, pico: Any) -> None:
    found = run(Conversations(write("a.jsonl", MESSY)), pico)
    for name, rows in found.splits.items():
        assert rows
        for example, item in zip(rows, found.encoded[name], strict=True):
            assert pico.decode(item.labels[item.labels >= 0]) == example.reply + "</s>"
            assert len(item.input_ids) <= 256


def test_nothing_is_cut_at_the_limit(write: Write, pico: Any) -> None:
    path = write("a.jsonl", GOOD)
    lengths = run(Conversations(path), pico).all_lengths
    longest = max(lengths)
    at = run(Conversations(path), pico, max_length=longest)
    below = run(Conversations(path), pico, max_length=longest - 1)
    assert at.dropped == {}
    assert below.dropped == {"longer_than_max_length": int((lengths == longest).sum())}
    assert (below.all_lengths == lengths).all()


def test_a_max_length_that_leaves_nothing(write: Write, pico: Any) -> None:
    path = write("a.jsonl", GOOD)
    words = r"data\.max_length: 3 tokens leave nothing.*shortest of 60 rows has \d+ tokens"
    with pytest.raises(UserError, match=words):
        run(Conversations(path), pico, max_length=3)
    talk = write("b.jsonl", [{"messages": TALK}])
    with pytest.raises(UserError, match="longer_than_max_length: 1"):
        run(Conversations(talk), pico)


def test_only_unusable_texts_left(write: Write, pico: Any) -> None:
    path = write("a.jsonl", [pair("</s>"), pair("x", "<pad>")])
    with pytest.raises(UserError, match=r"none of 2 rows is left.*control_token_in_text: 2"):
        run(Conversations(path), pico)


def test_unnamed_special_tokens_of_a_template_are_control_tokens_too(
    write: Write, pico: Any
) -> None:
    pico.add_tokens(["<|im_end|>"], special_tokens=True)
    path = write("a.jsonl", [*GOOD, pair("Hi <|im_end|>")])
    assert run(Conversations(path), pico).dropped == {"control_token_in_text": 1}


@pytest.mark.parametrize(("bad", "refused"), [(6, False), (7, True)])
def test_more_than_a_tenth_malformed_is_refused(
    write: Write, pico: Any, bad: int, refused: bool
) -> None:
    lines = [*GOOD[:54], *[pair("Hi", "")] * bad]
    path = write("a.jsonl", lines)
    if not refused:
        assert run(Conversations(path), pico).dropped == {"no_reply": bad}
        return
    with pytest.raises(UserError, match=r"7 of 61 rows cannot be used \(no_reply: 7\)") as error:
        run(Conversations(path), pico)
    assert f"{path}:55: no_reply" in str(error.value)
    assert f"{path}:60" not in str(error.value)  # the first five are shown


def test_a_file_cut_in_its_last_line_loses_that_line_alone(write: Write, pico: Any) -> None:
    whole = open(write("a.jsonl", GOOD), encoding="utf-8").read()  # noqa: SIM115
    found = run(Conversations(write("b.jsonl", whole[:-5])), pico)
    assert found.dropped == {"not_json": 1}
    assert "b.jsonl:60: " in found.account["rejected"][0]
    with pytest.raises(UserError, match=r"1 of 1 rows.*not_json[\s\S]*c\.jsonl:1"):
        run(Conversations(write("c.jsonl", '{"prompt": "Hi", "comp')), pico)


def test_a_repeated_row_has_one_split_whichever_of_its_groups_comes_first(
    write: Write, pico: Any
) -> None:
    rows = [
        pair(f"question {n} of all", f"answer {n}", group=f"{n} {g}")
        for n in range(60)
        for g in "ab"
    ]
    homes: list[dict[str, str]] = []
    for order in (rows, rows[::-1]):
        found = run(
            Conversations(write("a.jsonl", order)),
            pico,
            test_size=0.4,
            curation=Curation(near_duplicates="keep", allow=("leaks",)),
        )
        homes.append({e.id: name for name, part in found.splits.items() for e in part})
    assert homes[0] == homes[1]


def test_planted_families_never_straddle(write: Write, pico: Any) -> None:
    lines = [pair(f"q {f} {n}", f"a {f} {n}", group=f"f{f}") for f in range(40) for n in range(4)]
    found = run(Conversations(write("a.jsonl", lines)), pico, val_size=0.2, test_size=0.2)
    sides = [{row.group for row in rows} for rows in found.splits.values()]
    assert [len(side) > 0 for side in sides] == [True] * 3
    assert sum(map(len, sides)) == 40


def test_all_of_dolly_is_accounted_for(dolly: Curated) -> None:
    assert dolly.seen == 15_011
    assert kept(dolly) + dolly.dropped.total() == 15_011
    assert set(dolly.dropped) == {"repeated", "longer_than_max_length"}
    assert len(dolly.all_lengths) == 15_011
    assert sum(n > 512 for n in dolly.all_lengths) == dolly.dropped["longer_than_max_length"]
    groups = [{row.group for row in rows} for rows in dolly.splits.values()]
    assert not (groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2])


def test_lost_characters_of_bitext_are_dropped_and_counted(shared: Any, pico: Any) -> None:
    source = Bitext(str(shared / "data/bitext/bitext_customer_support.csv"), limit=300)
    found = run(source, pico, max_length=1024)
    assert found.seen == 22_814
    assert found.dropped["lost_characters"] == 92
    assert found.dropped["over_limit"] == 22_814 - 92 - 300
    assert kept(found) + found.dropped.total() == 22_814
