"""Sources: rows of every shape become the same conversations, and the rest is accounted for."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuner.data.example import Example, Message
from tuner.data.sources import Source
from tuner.data.sources.base import Rows
from tuner.data.sources.bitext import Bitext
from tuner.data.sources.conversations import Conversations
from tuner.data.sources.dolly import Dolly
from tuner.data.sources.medquad import MedQuAD
from tuner.data.sources.mixture import Mixture
from tuner.errors import UserError

Write = Callable[..., str]
Turns = list[tuple[str, str]]
HI: Turns = [("user", "Hi"), ("assistant", "Hello.")]
LONG: Turns = [
    ("system", "Be brief."),
    ("user", "One\n\nline?"),
    ("assistant", "No, two."),
    ("user", "Sure?"),
    ("assistant", "Yes."),
]


def listed(turns: Turns) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def marked(turns: Turns) -> str:
    return "".join(f"<|{role}|>\n{content}</s>\n" for role, content in turns)


# name: (shape, row, its turns)
SHAPES: dict[str, tuple[str, dict[str, Any], Turns]] = {
    "messages": ("messages", {"messages": listed(HI)}, HI),
    "messages, many": ("messages", {"messages": listed(LONG)}, LONG),
    "completion": ("prompt_completion", {"prompt": " Hi ", "completion": "Hello.\r\n"}, HI),
    "output": ("instruction", {"instruction": "Hi", "output": "Hello."}, HI),
    "response": ("instruction", {"instruction": "Hi", "response": "Hello."}, HI),
    "input": (
        "instruction",
        {"instruction": "Sum up", "input": "Long\ntext", "output": "Text"},
        [("user", "Long\ntext\n\nSum up"), ("assistant", "Text")],
    ),
    "context": (
        "instruction",
        {"instruction": "Sum up", "context": "Long, text", "response": 'A "text"'},
        [("user", "Long, text\n\nSum up"), ("assistant", 'A "text"')],
    ),
    "text": ("text", {"text": marked(HI)}, HI),
    "text, many": ("text", {"text": marked(LONG)}, LONG),
    "text, bare": ("text", {"text": "<|user|>\nHi\n<|assistant|>\nHello."}, HI),
}


def one(write: Write, ending: str, row: dict[str, Any]) -> str:
    if ending == "jsonl":
        return write("a.jsonl", [row])
    if ending == "json":
        return write("a.json", json.dumps([row]))
    cells = {k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()}
    text = io.StringIO()
    out = csv.DictWriter(text, list(cells))
    out.writeheader()
    out.writerow(cells)
    return write("a.csv", text.getvalue())


def turns(example: Example) -> Turns:
    return [(m.role, m.content) for m in example.messages]


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("ending", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("case", SHAPES)
def test_every_shape_in_every_file(write: Write, case: str, ending: str, told: bool) -> None:
    shape, row, expected = SHAPES[case]
    row = row | {"group": "g1", "category": " faq ", "ticket": "T-7"}
    path = one(write, ending, row)
    (example,) = Conversations(path, shape=shape if told else "auto").rows().examples  # pyright: ignore
    assert turns(example) == expected
    assert (example.group, example.category) == ("g1", "faq")
    assert example.meta["ticket"] == "T-7"
    assert set(example.meta) == {"ticket", "where"}
    assert str(example.meta["where"]).startswith(path)


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_conversational_prompt_and_completion(write: Write, ending: str) -> None:
    row = {"prompt": listed(LONG[:4]), "completion": listed(LONG[4:])}
    mixed = {"prompt": listed(LONG[:4]), "completion": "Yes."}
    for each in (row, mixed):
        (example,) = Conversations(one(write, ending, each)).rows().examples
        assert turns(example) == LONG


def test_an_explicit_shape_wins_over_the_keys(write: Write) -> None:
    row = {"messages": listed(LONG), "prompt": "Hi", "completion": "Hello."}
    path = write("a.jsonl", [row])
    assert turns(Conversations(path).rows().examples[0]) == LONG
    assert turns(Conversations(path, shape="prompt_completion").rows().examples[0]) == HI


def test_rows_without_a_group_share_one_when_their_first_question_is_equal(write: Write) -> None:
    asked = ["How are you?", "  how are\tYOU? ", "How old are you?"]
    path = write("a.jsonl", [{"prompt": p, "completion": "x"} for p in asked])
    first, second, third = (e.group for e in Conversations(path).rows().examples)
    assert first == second != third


def test_same_conversation_has_the_same_id_in_any_shape(write: Write) -> None:
    ids = {
        Conversations(write("a.jsonl", [row])).rows().examples[0].id
        for _, row, expected in SHAPES.values()
        if expected is HI
    }
    assert len(ids) == 1


U, A = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "Hi", "completion": ""}, "no_reply"),
    ({"prompt": "Hi", "completion": " \n\t"}, "no_reply"),
    ({"prompt": "Hi", "completion": None}, "no_reply"),
    ({"prompt": "Hi", "completion": float("nan")}, "no_reply"),
    ({"prompt": None, "completion": "x"}, "empty_user_turn"),
    ({"prompt": {"a": 1}, "completion": "x"}, "not_text(prompt)"),
    ({"prompt": "Hi", "completion": True}, "not_text(completion)"),
    ({"prompt": ["Hi"], "completion": "x"}, "message_without_role_and_content"),
    ({"instruction": "Hi", "output": [["nested"]]}, "not_text(output)"),
    ({"instruction": "", "output": "x"}, "no_prompt"),
    ({"instruction": "Hi", "input": ["x"], "output": "x"}, "not_text(input)"),
    ({"prompt": "Hi", "completion": "x", "group": ["g"]}, "not_text(group)"),
    ({"prompt": "Hi", "completion": "x", "category": {}}, "not_text(category)"),
    ({"text": "just text"}, "text_without_role_markers"),
    ({"text": "lead <|user|>\nHi"}, "text_without_role_markers"),
    ({"text": "<|user|>\nHi\n<|assistant|>\n</s>"}, "no_reply"),
    ({"text": 5}, "text_without_role_markers"),
    ({"messages": "Hi"}, "messages_not_a_list"),
    ({"messages": "[" * 100_000}, "messages_not_a_list"),
    ({"messages": None}, "unknown_shape"),
    ({"messages": {"role": "user"}}, "messages_not_a_list"),
    ({"messages": []}, "no_prompt"),
    ({"messages": ["Hi", "Hello"]}, "message_without_role_and_content"),
    ({"messages": [U, {"role": "assistant"}]}, "no_reply"),
    (
        {"messages": [U, {"role": "assistant", "content": ["x"]}]},
        "message_without_role_and_content",
    ),
    ({"messages": [{"role": 1, "content": "x"}, A]}, "message_without_role_and_content"),
    ({"messages": [U]}, "no_reply"),
    ({"messages": [A, U, A]}, "no_prompt"),
    ({"messages": [U, U, A]}, "turns_do_not_alternate"),
    ({"messages": [U, {"role": "system", "content": "x"}, A]}, "system_turn_not_first"),
    ({"messages": [U, {"role": "tool" * 9999, "content": "x"}, A]}, "unknown_role"),
    ({"prompt": "lone \ud800", "completion": "x"}, "lone_surrogate"),
    ({"prompt": "Hi", "completion": "x", "category": "\udfff"}, "lone_surrogate"),
    ({"prompt": "Hi", "completion": "x", "note": "\udfff"}, "lone_surrogate"),
    ({"prompt": "Hi", "completion": "x", "\udfff": 1}, "lone_surrogate"),
    ({"question": "Hi", "answer": "x"}, "unknown_shape(answer,question)"),
    ({"k" * 9999: 1}, "unknown_shape"),
    ({}, "unknown_shape()"),
]


def test_rows_that_are_no_conversation_are_rejected_with_reason_and_place(write: Write) -> None:
    path = write("a.jsonl", [row for row, _ in BAD])
    found = Conversations(path).rows()
    assert (found.seen, found.examples) == (len(BAD), [])
    assert [item.where for item in found.rejected] == [f"{path}:{n + 1}" for n in range(len(BAD))]
    for (row, reason), item in zip(BAD, found.rejected, strict=True):
        assert item.reason.startswith(reason), str(row)[:200]
        assert len(item.reason) < 120


@pytest.mark.parametrize("shape", ["messages", "prompt_completion", "instruction", "text"])
def test_a_shape_that_the_rows_do_not_have_is_no_crash(write: Write, shape: Any) -> None:
    found = Conversations(write("a.jsonl", [{"other": "x"}]), shape=shape).rows()
    assert len(found.rejected) == 1


def test_odd_but_usable_cells(write: Write) -> None:
    rows = [
        {"prompt": 2, "completion": 4.5},
        {"prompt": "nul \0 byte", "completion": "👩‍👩‍👧 ok"},
        {"prompt": "Hi", "completion": "x", "group": 7, "score": float("nan"), "more": [1]},
    ]
    number, nul, group = Conversations(write("a.jsonl", rows)).rows().examples
    assert turns(number) == [("user", "2"), ("assistant", "4.5")]
    assert turns(nul) == [("user", "nul \0 byte"), ("assistant", "👩‍👩‍👧 ok")]
    assert group.group == "7"
    assert set(group.meta) == {"where"}  # NaN and lists are no plain JSON values
    for example in (number, nul, group):
        json.loads(json.dumps(dict(example.meta), allow_nan=False))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", ""), ("a.jsonl", "\n \n"), ("a.json", ""), ("a.json", "[]"), ("a.csv", ""),
     ("a.csv", "prompt,completion\n")],
)  # fmt: skip
def test_empty_files_are_refused_by_name(write: Write, name: str, content: str) -> None:
    path = write(name, content)
    with pytest.raises(UserError, match="there are no rows in it") as error:
        Conversations(path).rows()
    assert path in str(error.value)


def test_bad_settings() -> None:
    for make in (
        lambda: Conversations(),
        lambda: Conversations("a.jsonl", name="hub/set"),
        lambda: Dolly("a.jsonl", limit=0),
        lambda: Mixture([]),
        lambda: Mixture([Dolly("a.jsonl")], path="a.jsonl"),
    ):
        with pytest.raises(UserError, match=r"data\.source"):
            make()


def test_hub_that_cannot_be_reached_names_the_way_out() -> None:
    with pytest.raises(UserError, match=r"cannot load 'no/such-set'.*--data\.source\.path"):
        Conversations(name="no/such-set").rows()


def test_limit_draws_the_same_rows_in_any_order_and_counts_the_rest(write: Write) -> None:
    rows = [{"prompt": f"q{n}", "completion": "x"} for n in range(50)]
    path, turned = write("a.jsonl", rows), write("b.jsonl", rows[::-1])

    def drawn(path: str, seed: int) -> Rows:
        return Conversations(path, limit=20, seed=seed).rows()

    found = drawn(path, 0)
    asked = [e.prompt[0].content for e in found.examples]
    assert asked == [e.prompt[0].content for e in drawn(turned, 0).examples][::-1]
    assert asked == sorted(asked, key=lambda q: int(q[1:]))  # in file order
    assert (len(asked), found.skipped["over_limit"], found.seen) == (20, 30, 50)
    assert set(asked) != {e.prompt[0].content for e in drawn(path, 1).examples}


def dolly_row(**cells: str) -> dict[str, str]:
    return {"instruction": "q", "context": "", "response": "r", "category": "open_qa"} | cells


def test_dolly_strips_citations_and_puts_the_context_first(write: Write) -> None:
    row = dolly_row(context="[1] Rome [12][3] fell [a].\n[42]", response="See [7].")
    (example,) = Dolly(write("a.jsonl", [row])).rows().examples
    assert turns(example) == [("user", "Rome fell [a].\n\nq"), ("assistant", "See [7].")]


def test_dolly_keywords_are_whole_words(write: Write) -> None:
    asked = ["What is ART?", "The start", "art.", "Is C++ hard?", "C+ or B", "none"]
    rows = [dolly_row(instruction=text) for text in asked] + [dolly_row(category="art")]
    path = write("a.jsonl", rows)
    found = Dolly(path, keywords=["art", "C++"]).rows()
    assert [e.prompt[0].content for e in found.examples] == [asked[0], asked[2], asked[3], "q"]
    assert found.skipped == {"no_keyword": 3}
    assert len(Dolly(path, keywords=[]).rows().examples) == 7
    assert len(Dolly(path, keywords=["art", ""]).rows().examples) == 3


def test_dolly_keywords_as_any_substring(write: Write) -> None:
    rows = [dolly_row(instruction=text) for text in ("The start", "An ARTIST?", "none")]
    path = write("a.jsonl", rows)
    found = Dolly(path, keywords=["art"], match="substring").rows().examples
    assert [e.prompt[0].content for e in found] == ["The start", "An ARTIST?"]


SLOTS = """flags,instruction,category,intent,response
B,cancel {{Order Number}} now,ORDER,cancel_order,"Order {{Order Number}}: see {{Settings}} ."
B,{{Order Number}},ORDER,cancel_order,Sure
"""


def test_bitext_slots_are_kept_filled_or_stripped(write: Write) -> None:
    path = write("a.csv", SLOTS)
    kept, filled = Bitext(path).rows().examples, Bitext(path, placeholders="fill").rows().examples
    assert "{{Order Number}}" in kept[0].reply
    assert not any("{" in m.content for e in filled for m in e.messages)
    (number,) = re.findall(r"MB-\d{5}", filled[0].prompt[0].content)
    assert filled[0].reply.startswith(f"Order {number}: see Settings"), "one value in a row"
    assert filled == Bitext(path, placeholders="fill").rows().examples
    assert [e.group for e in filled] == [e.group for e in kept], "groups are those of the slots"
    values = {
        Bitext(path, seed=seed, placeholders="fill").rows().examples[0].reply for seed in range(8)
    }
    assert len(values) > 1
    found = Bitext(path, placeholders="strip").rows()
    assert texts_of(found.examples[0]) == ["cancel now", "Order: see."]
    assert [item.reason for item in found.rejected] == ["nothing_but_placeholders"]


def texts_of(example: Example) -> list[str]:
    return [message.content for message in example.messages]


def test_bitext_rejects_lost_characters_and_groups_plain_variants(write: Write) -> None:
    head = "flags,instruction,category,intent,response\n"
    path = write(
        "a.csv",
        head
        + "B,cancel order {{Order Number}},ORDER,cancel_order,Sure\n"
        + "B,Order: cancel!,ORDER,cancel_order,Of course\n"
        + "B,cancel order,ORDER,other_intent,Sure\n"
        + "B,cancel order,ORDER,cancel_order,I\ufffdll help\n",
    )
    found = Bitext(path).rows()
    assert [item.reason for item in found.rejected] == ["lost_characters"]
    assert found.rejected[0].where == f"{path}:5"
    groups = [e.group for e in found.examples]
    assert groups[0] == groups[1] != groups[2]
    assert found.examples[0].messages[0].content == "cancel order {{Order Number}}"
    assert found.examples[0].meta["intent"] == "cancel_order"


def test_medquad_reads_both_forms_and_groups_by_focus(write: Write) -> None:
    ours = "question,answer,source,focus_area,question_type\n"
    path = write(
        "a.csv", ours + 'What  is it ?,"Long\nanswer",NIH,Flu,information\nNo ?,,NIH,Flu,\n'
    )
    hub = write("b.csv", "qtype,Question,Answer\ninformation,What is it ?,Long answer\n")
    found = MedQuAD(path).rows()
    assert found.skipped == {"no_answer": 1}
    (example,), (other,) = found.examples, MedQuAD(hub).rows().examples
    assert turns(example) == [("user", "What is it ?"), ("assistant", "Long\nanswer")]
    assert example.category == other.category == "information"
    assert example.group != other.group  # the focus area, and the question


def test_medquad_uses_an_answer_once(write: Write) -> None:
    rows = [
        {"question": f"Is {name} inherited?", "answer": answer, "focus_area": name}
        for name, answer in (("A", "Yes."), ("B", "No."), ("C", "Yes."), ("D", "Yes."))
    ]
    path = write("a.jsonl", rows)
    source = MedQuAD(path)
    for _ in range(2):  # each reading counts anew
        found = source.rows()
        assert [e.meta["focus_area"] for e in found.examples] == ["A", "B"]
        assert found.skipped == {"repeated_answer": 2}
    assert len(MedQuAD(path, repeated_answers="keep").rows().examples) == 4


@pytest.mark.parametrize("source", [Dolly, Bitext, MedQuAD])
def test_a_file_of_another_set_names_the_missing_column(write: Write, source: Any) -> None:
    found = source(write("a.jsonl", [{"unrelated": "x"}])).rows()
    assert found.rejected[0].reason.startswith("no_column_")


@pytest.mark.parametrize("source", [Dolly, Bitext, MedQuAD])
def test_cells_that_hold_no_text_are_rejected(write: Write, source: Any) -> None:
    keys = ("instruction", "context", "response", "category", "flags", "intent", "question")
    rows = [dict.fromkeys((*keys, "answer"), cell) for cell in ([1], {"a": 1}, True, "\ud800")]
    reasons = [item.reason for item in source(write("a.jsonl", rows)).rows().rejected]
    assert [reason.partition("(")[0] for reason in reasons] == ["not_text"] * 3 + ["lone_surrogate"]


def test_mixture_adds_up_its_parts(write: Write) -> None:
    first = write("a.jsonl", [{"prompt": "a", "completion": "x"}, {"prompt": "b"}])
    second = write("b.jsonl", [dolly_row(instruction=q) for q in ("cat", "dog", "cow")])
    parts: list[Source] = [Conversations(first), Dolly(second, keywords=["cat", "dog"])]
    found = Mixture(parts, limit=2).rows()
    assert (found.seen, len(found.examples), len(found.rejected)) == (5, 2, 1)
    assert found.skipped == {"no_keyword": 1, "over_limit": 1}
    card = Mixture(parts).provenance()
    assert [part["path"] for part in card["sources"]] == [first, second]
    assert "CC BY-SA 3.0" in card["licence"]


def test_mixture_keeps_the_proportions_of_its_weights(write: Write) -> None:
    files = [
        write(f"{name}.jsonl", [{"prompt": f"{name}{i}", "completion": "x"} for i in range(count)])
        for name, count in (("a", 90), ("b", 20), ("c", 500))
    ]

    def parts(**options: Any) -> Counter[str]:
        sources: list[Source] = [Conversations(file) for file in files]
        found = Mixture(sources, **options).rows()
        assert found.seen == 610
        return Counter(str(e.meta["part"])[-1] for e in found.examples)

    assert parts() == {"1": 90, "2": 20, "3": 500}
    assert parts(weights=[3, 1, 2]) == {"1": 60, "2": 20, "3": 40}
    assert parts(weights=[3, 1, 2], limit=60) == {"1": 30, "2": 10, "3": 20}
    assert parts(weights=[0.25, 0.05, 2]) == {"1": 62, "2": 12, "3": 500}
    for wrong in ([1, 1], [1, 0, 1], [1, -1, 2], [1, float("nan"), 1]):
        with pytest.raises(UserError, match=r"data\.source\.weights"):
            parts(weights=wrong)


def test_mapped_columns_may_be_swapped_shared_and_lacking(write: Write) -> None:
    rows = [{"a": "one", "b": "two", "topic": "x"}, {"a": "three", "b": "four"}]
    columns = {"prompt": "b", "completion": "a", "category": "topic", "group": "b"}
    found = Conversations(write("a.jsonl", rows), columns=columns).rows()
    assert [texts_of(e) for e in found.examples] == [["two", "one"], ["four", "three"]]
    assert [(e.category, e.group) for e in found.examples] == [("x", "two"), ("", "four")]


def test_a_part_of_a_mixture_without_rows_is_named(write: Write) -> None:
    good = write("a.jsonl", [{"prompt": f"q{n}", "completion": "x"} for n in range(99)])
    bad = write("b.jsonl", [{"prompt": "q"}])
    with pytest.raises(UserError, match=r"no row of Conversations 2 can be used.*b\.jsonl:1: "):
        Mixture([Conversations(good), Conversations(bad)]).rows()


def test_bitext_slots_within_slots_and_words_within_words(write: Write) -> None:
    head = "flags,instruction,category,intent,response\n"
    line = "B,go,A,a,Press {{Upgrade to {{Account Type}}}} or {{Update Profile}} on {{Date}}.\n"
    path = write("a.csv", head + line)
    (filled,) = Bitext(path, placeholders="fill").rows().examples
    assert not re.search("[{}]", filled.reply)
    assert "Update Profile" in filled.reply
    (stripped,) = Bitext(path, placeholders="strip").rows().examples
    assert stripped.reply == "Press or on."


def test_bitext_can_teach_the_intent(write: Write) -> None:
    path = write("a.csv", SLOTS)
    assert {e.reply for e in Bitext(path, reply="intent").rows().examples} == {"cancel_order"}


def test_the_real_sets_are_read_whole(shared: Path) -> None:
    dolly = Dolly(str(shared / "data/dolly/databricks-dolly-15k.jsonl")).rows()
    assert (dolly.seen, len(dolly.examples), dolly.rejected) == (15_011, 15_011, [])
    assert not any("[1]" in m.content for e in dolly.examples[:1000] for m in e.prompt)
    bitext = Bitext(str(shared / "data/bitext/bitext_customer_support.csv")).rows()
    assert (bitext.seen, len(bitext.examples)) == (22_814, 22_814 - 92)
    assert {item.reason for item in bitext.rejected} == {"lost_characters"}
    medquad = MedQuAD(str(shared / "data/medquad/medquad_full.csv.gz")).rows()
    assert (medquad.seen, len(medquad.examples)) == (13_000, 12_541)
    assert medquad.skipped == {"repeated_answer": 459}


def test_messages_are_plain_records() -> None:
    assert Message("user", "Hi").as_dict() == {"role": "user", "content": "Hi"}


def test_the_counts_beside_the_formal_keywords_are_those_of_the_real_rows(shared: Path) -> None:
    text = (Path(__file__).parents[2] / "configs/data/dolly_formal.yaml").read_text()
    keywords = yaml.safe_load(text)["data"]["source"]["init_args"]["keywords"]
    path = str(shared / "data/dolly/databricks-dolly-15k.jsonl")
    words = len(Dolly(path, keywords=keywords).rows().examples)
    parts = len(Dolly(path, keywords=keywords, match="substring").rows().examples)
    assert f"{words} of the 15,011 rows as\n# whole words, {parts} with" in text
