"""Every reader of rows gets damaged files: they are read with an account, or refused in words."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.attacks.damage import attack, changed, damaged
from tuner.data.sources.base import Source
from tuner.data.sources.bitext import Bitext
from tuner.data.sources.conversations import Conversations
from tuner.data.sources.dolly import Dolly
from tuner.data.sources.medquad import MedQuAD
from tuner.data.sources.mixture import Mixture
from tuner.data.sources.twitter_support import TwitterSupport
from tuner.errors import UserError

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
CHATS = [
    {"messages": TURNS, "group": "g", "category": "c"},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    {"turns": [{"user": "a", "assistant": "b"}]},
    {"prompt": "a", "completion": "b", "id": 7},
    {"instruction": "a", "input": "b", "output": "c"},
    {"text": "<|user|>\na</s>\n<|assistant|>\nb</s>"},
]
DOLLY = [{"instruction": "a", "context": "b [42]", "response": "c", "category": "d"}] * 3
BITEXT = [
    {"flags": "B", "instruction": "cancel {{Order Number}}", "category": "ORDER"}
    | {"intent": "cancel_order", "response": "{{Name}}, it is done"}
] * 3
MEDQUAD = [{"question": "a?", "answer": "b", "focus_area": "c", "source": "d", "qtype": "e"}] * 3
TWEETS = [
    dict(
        zip(
            ("tweet_id", "author_id", "inbound", "text", "in_response_to_tweet_id"),
            row,
            strict=True,
        )
    )
    for row in (
        ("1", "100", "True", "@Co where is my parcel now", ""),
        ("2", "Co", "False", "@100 it is on its way to you ^AB", "1"),
        ("3", "100", "True", "thank you very much &amp; bye", "2"),
        ("4", "Co", "False", "you are very welcome https://t.co/x -Jo", "3"),
    )
]


def jsonl(rows: Any) -> bytes:
    listed = rows if isinstance(rows, list) else [rows]
    return "".join(json.dumps(row) + "\n" for row in listed).encode()


def in_json(rows: Any) -> bytes:
    return json.dumps(rows, ensure_ascii=False).encode("utf-8", "surrogatepass")


def in_csv(rows: Any) -> bytes:
    listed = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in listed for name in row))
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in listed)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def in_parquet(rows: Any) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    target = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), target)
    return target.getvalue()


CONVERSATIONS = (
    lambda path: Conversations(path, limit=2),
    *(lambda path, shape=shape: Conversations(path, shape=shape)
      for shape in ("auto", "messages", "prompt_completion", "instruction", "text")),
    *(lambda path, name=name: Conversations(path, encoding=name)
      for name in ("utf-16", "cp1252", "utf-7", "punycode", "unicode_escape", "idna")),
    lambda path: Conversations(path, columns={"prompt": "completion", "completion": "prompt"}),
)  # fmt: skip
# What reads the rows, the rows, and the endings of the files that they stand in.
READERS: dict[str, tuple[tuple[Callable[[str], Source], ...], list[Any], tuple[str, ...]]] = {
    "Conversations": (
        CONVERSATIONS, CHATS, ("jsonl", "json", "csv", "jsonl.gz", "json.gz", "csv.gz", "tsv")
    ),
    "Conversations, one table": (CONVERSATIONS, CHATS[3:4] * 4, ("parquet",)),
    "Dolly": (
        (Dolly, lambda path: Dolly(path, keywords=["a", "("], match="substring")),
        DOLLY, ("jsonl", "csv", "parquet"),
    ),
    "Bitext": (
        tuple(
            lambda path, do=do: Bitext(path, placeholders=do) for do in ("keep", "fill", "strip")
        ),
        BITEXT, ("csv", "jsonl", "parquet"),
    ),
    "MedQuAD": ((MedQuAD,), MEDQUAD, ("csv", "jsonl", "csv.gz")),
    "TwitterSupport": (
        (TwitterSupport, lambda path: TwitterSupport(path, threads=True, english=False)),
        TWEETS, ("csv",),
    ),
    "Mixture": (
        (lambda path: Mixture([Conversations(path), Conversations(path)], weights=[1, 2]),),
        CHATS, ("jsonl", "csv"),
    ),
}  # fmt: skip
WRITERS = {"jsonl": jsonl, "json": in_json, "csv": in_csv, "tsv": in_csv}


def files(rows: list[Any], ending: str) -> st.SearchStrategy[bytes]:
    """Files of one ending: of changed rows, or damaged byte by byte, before or after packing."""
    first = ending.partition(".")[0]
    if first == "parquet":
        return damaged(in_parquet(rows))
    whole = WRITERS[first](rows)
    found = changed(rows).map(WRITERS[first]) | damaged(whole)
    if ending.endswith(".gz"):
        return found.map(gzip.compress) | damaged(gzip.compress(whole))
    return found


def account(source: Source) -> str:
    """What becomes of all rows of a file; whatever is kept must be fit to be written down."""
    refusal, found = "", None
    try:
        found = source.rows()
        source.provenance()
    except UserError as error:
        refusal = str(error)
    if found is None or refusal:
        assert 0 < len(refusal) < 1500
        return "refused"
    kept = len(found.examples)
    assert found.seen == kept + len(found.rejected) + found.skipped.total()
    for example in found.examples:
        assert all(message.content.strip() for message in example.messages)
        assert example.messages[-1].role == "assistant"
        json.dumps([example.id, dict(example.meta)], allow_nan=False)
    for one in found.rejected:
        (one.where + one.reason).encode()
    return "read"


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("cases", [40, pytest.param(7000, marks=pytest.mark.soak)])
def test_damaged_rows_are_read_or_refused(
    name: str, cases: int, tmp_path: Path, figures: Callable[..., None]
) -> None:
    sources, rows, endings = READERS[name]
    found = Counter[str]()

    def check(case: tuple[str, bytes, Callable[[str], Source]]) -> None:
        ending, content, make = case
        file = tmp_path / f"rows.{ending}"
        file.write_bytes(content)
        found[account(make(str(file)))] += 1

    strategy = st.sampled_from(endings).flatmap(
        lambda ending: st.tuples(st.just(ending), files(rows, ending), st.sampled_from(sources))
    )
    tried = attack(cases, strategy, check)
    assert found["read"] > 0, "nothing but refusals would prove little"
    assert found["refused"] > 0
    figures("input", f"damaged rows for {name}", tried, **found)


def test_moments_that_python_has_no_words_for(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    for kind in (pa.timestamp("us"), pa.duration("s")):
        table = pa.table({"prompt": ["a"], "completion": ["b"], "at": pa.array([2**62], kind)})
        parquet.write_table(table, tmp_path / "a.parquet")
        with pytest.raises(UserError, match=r"a\.parquet: not a valid Parquet file"):
            Conversations(str(tmp_path / "a.parquet")).rows()


@pytest.mark.parametrize(
    "row", [{"\ud800": "a"}, {"messages": [{"role": "\ud800", "content": "a"}]}]
)
def test_a_reason_can_be_printed_whatever_the_row_holds(row: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    (rejected,) = Conversations(str(tmp_path / "a.jsonl")).rows().rejected
    assert r"\ud800" in rejected.reason
    rejected.reason.encode()
