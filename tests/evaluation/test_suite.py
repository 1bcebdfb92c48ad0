"""Shipped suites are sound and no training data; one's own are read, or refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuner.data.example import Message
from tuner.data.near import plain, shingles
from tuner.data.sources.conversations import Conversations
from tuner.errors import UserError
from tuner.evaluation.suite import SUITES, Suite, load_suite

ROOT = Path(__file__).parents[2]
SAMPLES = [p for p in sorted((ROOT / "data" / "samples").glob("*.jsonl")) if p.stem != "general"]
NAMES = sorted(file.stem for file in SUITES.glob("*.yaml"))
SCENARIOS = [
    *("feedback_on_draft", "decline_invitation", "application_follow_up", "apology"),
    *("recommendation_letter", "meeting_confirmation", "group_project", "clarifying_question"),
    *("interview_thanks", "scheduling_conflict"),
]
ITEM = {"id": "one", "prompt": "Where is my refund?", "reference": "On its way."}


def test_the_six_suites_are_there() -> None:
    assert NAMES == ["before_after", "docstrings", "faq", "formal", "headlines", "support"]


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_suite_is_whole(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert suite.description
    assert len(suite.rubric) == 4
    assert all(sentence.endswith(".") for sentence in suite.rubric.values())
    for example in suite.examples:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", example.meta["item"])
        assert example.reply
        assert example.category
    text = (SUITES / f"{name}.yaml").read_text(encoding="ascii")
    assert text.startswith("#")
    assert f"--suite configs/suites/{name}.yaml" in text
    mails = re.findall(r"[\w.+-]+@[\w-]+\.\w+", text)
    assert all(mail.endswith("@example.com") for mail in mails)


def expected(suite: Suite, key: str) -> list[str | None]:
    return [example.meta["expects"].get(key) for example in suite.examples]


def test_suites_have_what_they_are_for() -> None:
    suites = {name: load_suite(name) for name in NAMES}
    assert [e.category for e in suites["formal"].examples] == SCENARIOS
    assert expected(suites["formal"], "format") == ["email"] * 10
    assert list(suites["formal"].rubric) == [
        *("task_adherence", "tone", "clarity_and_conciseness", "helpfulness")
    ]
    kinds = ["factual", "polite_tone", "short_versus_long", "short_versus_long", "refusal"]
    assert [e.category for e in suites["before_after"].examples] == kinds
    assert expected(suites["before_after"], "decline") == ["no"] * 4 + ["yes"]
    assert set(expected(suites["docstrings"], "format")) == {"docstring"}
    for example in suites["faq"].examples:
        declined = "only answer questions about Tallowmere" in example.reply
        declined |= "I can only help with" in example.reply or "I cannot share" in example.reply
        assert example.meta["expects"]["decline"] == ("yes" if declined else "no")
        assert example.category == ("out_of_scope" if declined else "in_scope")
    assert expected(suites["faq"], "decline").count("yes") == 7
    declined = [e for e in suites["support"].examples if e.meta["expects"]["decline"] == "yes"]
    assert {"out_of_policy"} < {e.category for e in declined}
    assert len(suites["support"].examples) >= 12
    sections = [e for e in suites["headlines"].examples if e.category == "section"]
    assert all(e.reply in e.prompt[-1].content.split("\n")[0] for e in sections)
    assert all(
        4 <= len(e.reply.split()) <= 12
        for e in suites["headlines"].examples
        if e.category == "headline"
    )


def test_formal_references_have_the_form_of_an_email() -> None:
    for example in load_suite("formal").examples:
        subject, blank, greeting, *rest = example.reply.split("\n")
        assert subject.startswith("Subject: ")
        assert not blank
        assert re.fullmatch(r"Dear .+,", greeting)
        assert re.fullmatch(r"(Kind regards|Best wishes|Yours sincerely),", rest[-2])
        assert rest[-1] in example.prompt[-1].content
        assert 60 <= len(example.reply.split()) <= 150


def test_no_item_is_training_data() -> None:
    rows = [e for file in SAMPLES for e in Conversations(str(file)).rows().examples]
    known = {plain(message.content) for row in rows for message in row.messages}
    pieces = [set(shingles(row.prompt[-1].content).tolist()) for row in rows]
    for name in NAMES:
        for example in load_suite(name).examples:
            asked = example.prompt[-1].content
            parts = [asked, *asked.split("\n\n"), example.reply]
            if example.category == "section":  # its reply is one of six words
                parts.pop()
            assert not known & {plain(part) for part in parts}, example.meta["item"]
            own = set(shingles(asked).tolist())
            like = [other for other in pieces if 0.7 <= len(own) / len(other) <= 1 / 0.7]
            assert all(len(own & o) < 0.7 * len(own | o) for o in like), example.meta["item"]


def written(folder: Path, content: Any) -> Path:
    file = folder / "mine.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return file


OWN = """
description: Mine.
rubric: {tone: The reply is polite.}
system: Be brief.
metrics: [rougeL]
items:
  - id: a
    category: money
    prompt: |
      Where is my refund?
    reference: It is on its way.
    expects: {decline: no, format: json}
  - id: b
    messages:
      - {role: system, content: Be long.}
      - {role: user, content: "Hello."}
      - {role: assistant, content: Good day.}
      - {role: user, content: "Tell me more."}
    expects: {decline: yes}
"""


def test_a_suite_of_ones_own(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path, OWN))
    assert (suite.name, suite.description, suite.metrics) == ("mine", "Mine.", ("rougeL",))
    assert suite.rubric == {"tone": "The reply is polite."}
    one, two = suite.examples
    assert one.messages == (
        Message("system", "Be brief."),
        Message("user", "Where is my refund?"),
        Message("assistant", "It is on its way."),
    )
    assert (one.group, one.category) == ("a", "money")
    assert one.meta == {"item": "a", "expects": {"decline": "no", "format": "json"}}
    assert [m.role for m in two.prompt] == ["system", "user", "assistant", "user"]
    assert two.prompt[0].content == "Be long."
    assert (two.reply, two.category) == ("", "")
    assert two.meta["expects"] == {"decline": "yes"}
    json.dumps([dict(e.meta) for e in suite.examples])


def test_the_table_and_the_example_of_the_guide_are_right(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\w+)\]\(\.\./configs/suites/\w+\.yaml\) \| (\d+) \|", guide, re.M)
    assert {n: int(count) for n, count in rows} == {n: len(load_suite(n).examples) for n in NAMES}
    (text,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    (example,) = load_suite(written(tmp_path, text)).examples
    assert example.meta["expects"] == {"decline": "no", "format": "email"}


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    first = load_suite(written(tmp_path, OWN)).sha256
    assert len(first) == 64
    same = "# A comment.\n" + OWN.replace("decline: no,", "decline: 'no',")
    assert load_suite(written(tmp_path, same)).sha256 == first
    changes = [("Mine.", "Ours."), ("polite", "kind"), ("rougeL", "bleu"), ("id: a", "id: c")]
    changes += [
        ("my refund", "our refund"),
        ("on its way", "lost"),
        ("decline: yes", "decline: no"),
    ]
    changes += [("money", "cash"), ("Be brief", "Be quick")]
    hashes = {load_suite(written(tmp_path, OWN.replace(*change))).sha256 for change in changes}
    assert len(hashes | {first}) == len(changes) + 1


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (
            ITEM | {"refrence": "x"},
            "item 1 'one': unknown key 'refrence'. Did you mean 'reference'",
        ),
        ({"id": "one", "reference": "x"}, "'one': has neither prompt nor messages"),
        (
            ITEM | {"messages": [{"role": "user", "content": "x"}]},
            "'one': has both prompt and messages",
        ),
        ({"prompt": "x"}, "item 1: has no id"),
        (ITEM | {"id": 7}, "item 1: id: must be text, not 7 (int); put it in quotes"),
        (ITEM | {"prompt": 12}, "'one': prompt: must be text, not 12 (int); put it in quotes"),
        (ITEM | {"prompt": "  "}, "'one': prompt: is empty"),
        (ITEM | {"reference": True}, "'one': reference: must be text, not True (bool)"),
        (ITEM | {"category": None}, "'one': category: must be text, not empty"),
        (ITEM | {"expects": {"declines": "yes"}}, "unknown key 'declines'. Did you mean 'decline'"),
        (ITEM | {"expects": {"decline": "maybe"}}, "expects.decline: unknown value 'maybe'"),
        (ITEM | {"expects": {"format": "e-mail"}}, "'e-mail'. Did you mean 'email'? Allowed: doc"),
        (ITEM | {"expects": "decline"}, "expects: must be a mapping of keys to values, not text"),
        ("one", "item 1: must be a mapping of keys to values, not text"),
        ({"id": "one", "messages": []}, "the last one must be the user's"),
        ({"id": "one", "messages": "Hi"}, "messages: must be a list, not text"),
        ({"id": "one", "messages": [{"role": "user"}]}, "message 1: has no content"),
        (
            {"id": "one", "messages": [{"role": "usr", "content": "x"}]},
            "message 1: unknown role 'usr'. Did you mean 'user'",
        ),
        (
            {"id": "one", "messages": [{"role": r, "content": "x"} for r in ("user", "assistant")]},
            "the last one must be the user's",
        ),
        (
            {"id": "one", "messages": [{"role": r, "content": "x"} for r in ("user", "user")]},
            "must take turns",
        ),
        (
            {"id": "one", "messages": [{"role": r, "content": "x"} for r in ("user", "system")]},
            "a system message can only be the first",
        ),
    ],
)
def test_an_item_that_does_not_fit_is_named(item: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        load_suite(written(tmp_path, {"items": [item]}))
    assert "mine.yaml: item 1" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"item": [ITEM]}, "unknown key 'item'. Did you mean 'items'"),
        ({"items": []}, "items: is empty"),
        ({"description": "x"}, "items: must be a list, not empty"),
        ([ITEM], "must be a mapping of keys to values, not a list"),
        ("", "must be a mapping of keys to values, not empty"),
        ({"items": [ITEM], "rubric": {"tone": 5}}, "rubric: tone: must be text"),
        ("rubric: {yes: Fine.}\nitems: []", "rubric: the key True must be text"),
        ({"items": [ITEM], "metrics": "rougeL"}, "metrics: must be a list, not text"),
        ({"items": [ITEM], "metrics": [1]}, "metrics: must be names"),
        ({"items": [ITEM, ITEM | {"prompt": "x"}]}, "item 2 'one': another item has this id"),
        ({"items": [ITEM, ITEM | {"id": "two"}]}, "'two': has the same messages and reference as"),
        ("items: [", "no valid YAML"),
        ("items:\n- id: a\n  prompt: x\n  prompt: y\n", "the key 'prompt' stands twice"),
        ("items:\n- {[a]: b}\n", "unhashable"),
    ],
)
def test_a_file_that_does_not_fit_is_named(content: Any, says: str, tmp_path: Path) -> None:
    file = written(tmp_path, content)
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        load_suite(str(file))
    assert str(file) in str(caught.value)


def test_an_unknown_suite_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'formel'\. Did you mean 'formal'"):
        load_suite("formel")
    with pytest.raises(UserError, match=r"cannot read .*nowhere\.yaml"):
        load_suite(str(tmp_path / "nowhere.yaml"))
    with pytest.raises(UserError, match="cannot read"):
        load_suite(tmp_path)
    assert load_suite(SUITES / "faq.yaml") == load_suite("faq")
