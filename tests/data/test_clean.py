"""The steps that look at one row: what each drops, changes and flags, by count."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tuner.data import pool
from tuner.data.clean import Cleaner
from tuner.data.curate import Curated, curate
from tuner.data.curation import Curation
from tuner.data.datamodule import ConversationData
from tuner.data.language import looks_english
from tuner.data.prompts.chat import Chat
from tuner.data.sources.conversations import Conversations
from tuner.errors import UserError

ENGLISH = [
    ("Where is the parcel that you sent me?", "It is on its way to you."),
    ("Can I change my address?", "Yes, you can do that in your account."),
    ("My e-mail is jo@example.org, please help", "We have written to jo@example.org."),
    ("<|user|>\nWhat is this?", "That is a mark in the text."),
]
FOREIGN = [
    ("Wo ist mein Paket, das ihr geschickt habt?", "Es ist auf dem Weg zu dir."),
    ("Где находится мой заказ сегодня?", "Он уже в пути."),
]


def rows(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"prompt": prompt, "completion": reply} for prompt, reply in pairs]


def prepare(path: str, tokenizer: Any, **rules: Any) -> Curated:
    return ConversationData(
        Conversations(path), val_size=0, test_size=0, curation=Curation(**rules)
    ).prepare(tokenizer)


def step(found: Curated, name: str) -> tuple[int, int, int]:
    (one,) = [s for s in found.account["steps"] if s["step"] == name]
    return one["rows"], one["dropped"], one["changed"]


def test_filters_count_what_they_drop(write: Any, pico: Any) -> None:
    path = write("a.jsonl", rows(ENGLISH + FOREIGN))
    assert len(prepare(path, pico).splits["train"]) == 6
    assert step(prepare(path, pico, language="en"), "language") == (6, 2, 0)
    assert step(prepare(path, pico, charset="latin"), "charset") == (6, 1, 0)
    found = prepare(path, pico, keywords=("parcel", "ADDRESS", "mai"))
    assert step(found, "keywords") == (6, 4, 0), "whole words, whatever their case"
    kept = [e.prompt[-1].content for e in found.splits["train"]]
    assert kept == [ENGLISH[0][0], ENGLISH[1][0]]
    everything = prepare(path, pico, keywords=("e-mail", "Paket"), language="en", charset="latin")
    assert [(s["rows"], s["dropped"]) for s in everything.account["steps"][2:5]] == [
        (6, 4), (2, 1), (1, 0),
    ]  # fmt: skip


def test_every_dropped_row_is_written_down(write: Any, pico: Any) -> None:
    bad = [{"prompt": "x", "completion": ""}, {"prompt": "\ud800", "completion": "y"}]
    many = [(f"question {n}, which is this one?", f"answer {n}") for n in range(40)]
    path = write("a.jsonl", [*rows(many + FOREIGN + many[:1]), *bad])
    found = prepare(path, pico, language="en")
    lines = (found.folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    written = [json.loads(line) for line in lines]
    assert sorted((w["step"], w["reason"], w["where"].rpartition(":")[2]) for w in written) == [
        ("exact_duplicates", "repeated", "43"),
        ("language", "not_english", "41"),
        ("language", "not_english", "42"),
        ("validity", "lone_surrogate", "45"),
        ("validity", "no_reply", "44"),
    ]
    steps = found.account["steps"]
    assert steps[0]["rows"] == found.seen == 45
    assert steps[-1]["rows"] - steps[-1]["dropped"] == found.account["rows_out"] == 40
    assert sum(s["dropped"] for s in steps) == found.dropped.total() == len(written)


def test_marks_of_a_speaker_are_flagged_and_stay_text(write: Any, pico: Any) -> None:
    found = prepare(write("a.jsonl", rows(ENGLISH)), pico)
    assert found.account["flagged"]["role_mark_in_text"] == 1
    (place,) = found.account["flagged_rows"]
    assert re.fullmatch(r".*a\.jsonl:\d+: role_mark_in_text", place)
    assert any("<|user|>" in e.prompt[-1].content for e in found.splits["train"])


def test_reply_tokens_lost_at_the_length_limit_are_counted(write: Any, pico: Any) -> None:
    long = [("Tell me", "word " * 600), ("And again", "word " * 600)]
    path = write(
        "a.jsonl", rows([(f"question {n}, which is it?", "fine") for n in range(30)] + long)
    )
    dropped = prepare(path, pico).account
    assert dropped["reply_tokens_lost"]["tokens"] >= 1200
    assert dropped["dropped"] == {"longer_than_max_length": 2}
    kept = sum(split["supervised_tokens"] for split in dropped["splits"].values())
    lost = dropped["reply_tokens_lost"]["tokens"]
    assert dropped["reply_tokens_lost"]["share"] == pytest.approx(lost / (lost + kept))
    whole = ConversationData(Conversations(path), max_length=2048, val_size=0, test_size=0.1)
    assert whole.prepare(pico).account["reply_tokens_lost"] == {"tokens": 0, "share": 0.0}


def test_redaction_changes_and_counts(write: Any, pico: Any) -> None:
    found = prepare(write("a.jsonl", rows(ENGLISH)), pico, redact=True)
    assert step(found, "redaction")[2] == 1
    texts = " ".join(m.content for e in found.splits["train"] for m in e.messages)
    assert "jo@example.org" not in texts
    assert sum(e.meta.get("redacted", {}).get("email", 0) for e in found.splits["train"]) == 2


def test_notes_on_the_question_are_kept_as_meta(write: Any, pico: Any) -> None:
    found = prepare(write("a.jsonl", rows(ENGLISH)), pico, annotate=("kind", "priority"))
    assert {e.meta["kind"] for e in found.splits["train"]} <= {"question", "complaint", "other"}
    assert all("sentiment" not in e.meta for e in found.splits["train"])


@pytest.mark.parametrize("processes", [1, 3])
def test_many_blocks_in_any_number_of_processes_give_the_same(
    processes: int, write: Any, pico: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "ALONE", 2)
    monkeypatch.setattr("tuner.data.curate.BLOCK", 7)
    path = write("a.jsonl", rows([(f"question {n} " + "x" * (n % 9), f"a {n}") for n in range(99)]))
    cleaner = Cleaner(Curation(), Chat(), pico, 64, seed=0)
    (tmp_path / "many").mkdir()
    found = curate(
        Conversations(path).items(), cleaner, tmp_path / "many",
        val_size=0.1, test_size=9, processes=processes,
    )  # fmt: skip
    monkeypatch.undo()
    whole = ConversationData(
        Conversations(path), Chat(), max_length=64, val_size=0.1, test_size=9, seed=0
    ).prepare(pico)
    assert found.account == whole.account
    for name, split in whole.splits.items():
        assert list(found.splits[name]) == list(split)
        for one, two in zip(found.encoded[name], whole.encoded[name], strict=True):
            assert one.input_ids.tolist() == two.input_ids.tolist()
            assert one.labels.tolist() == two.labels.tolist()


def test_an_error_in_another_process_reaches_the_user(
    write: Any, pico: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "ALONE", 1)
    monkeypatch.setattr("tuner.data.curate.BLOCK", 2)
    pairs = [(f"question {n}", "word " * (100 if n == 30 else 1)) for n in range(40)]
    source = Conversations(write("a.jsonl", rows(pairs)))
    cleaner = Cleaner(Curation(overlong="error"), Chat(), pico, 64, seed=0)
    with pytest.raises(UserError, match=r"a\.jsonl:31 has \d+ tokens"):
        curate(source.items(), cleaner, tmp_path, val_size=0, test_size=0, processes=2)


@pytest.mark.parametrize("rules", [{"max_rejected": -0.1}, {"max_leaks": 1.5}])
def test_shares_out_of_range(rules: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"data.curation.{next(iter(rules))}"):
        Curation(**rules)


def test_the_share_of_malformed_rows_is_a_setting(write: Any, pico: Any) -> None:
    good = [(f"question {n}", "fine") for n in range(8)]
    path = write("a.jsonl", [*rows(good), {"prompt": "x"}, {"prompt": "y"}])
    with pytest.raises(UserError, match=r"2 of 10 rows .* up to 10% \(data.curation.max_rejected"):
        prepare(path, pico)
    assert len(prepare(path, pico, max_rejected=0.2).splits["train"]) == 8


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("I would like to know where my order is.", True),
        ("WHERE IS MY PARCEL???", True),
        ("thx!", True),
        ("¿Dónde está mi pedido? Lo necesito para mañana por la mañana.", False),
        ("Ich habe gestern eine Lampe bestellt und sie ist kaputt angekommen.", False),
        ("Je voudrais savoir quand ma commande sera livrée à la maison.", False),
        ("请问我的订单在哪里", False),
        ("¡Hola!", False),
    ],
)
def test_what_looks_english(text: str, english: bool) -> None:
    assert looks_english(text) is english
