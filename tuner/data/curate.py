"""From a source's rows to clean, split, encoded examples, with an account of every row dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tuner.data.encode import Encoded, encode, special_texts
from tuner.data.example import Example, Rejected
from tuner.data.prompts import Prompt
from tuner.data.sources.base import Rows
from tuner.data.split import SPLITS, Size, split_groups
from tuner.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_REJECTED = 0.1  # share of malformed rows above which the data is taken to be misread
SHOWN = 5


@dataclass
class Curated:
    """The splits of a data set and the account of how they came about.

    Attributes:
        splits: examples of train, val and test.
        encoded: the same rows as token ids and labels.
        seen: rows read.
        dropped: rows that did not make it, by reason.
        rejected: malformed rows with their place.
        lengths: tokens of every row before the length limit; without rows of more turns than the
            limit has tokens, which are not even rendered.
    """

    splits: dict[str, list[Example]]
    encoded: dict[str, list[Encoded]]
    seen: int
    dropped: Counter[str]
    rejected: list[Rejected]
    lengths: list[int] = field(default_factory=list[int])


def curate(
    rows: Rows,
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    val_size: Size,
    test_size: Size,
    seed: int,
) -> Curated:
    """Drop what cannot be trained on, split by group and encode.

    In order: malformed rows, exact repetitions of a conversation, texts that hold a control token
    of the tokenizer, rows whose reply cannot be told from its header in tokens, rows longer than
    `max_length` tokens. Nothing is cut.

    Raises:
        UserError: no rows, more than a tenth malformed, or nothing left to train on.
    """
    _refuse_bad(rows)
    dropped = rows.skipped + Counter(item.reason for item in rows.rejected)
    special = special_texts(tokenizer)
    examples: list[Example] = []
    ids: set[str] = set()
    for example in rows.examples:
        if example.id in ids:
            dropped["repeated"] += 1
        elif any(mark in m.content for m in example.messages for mark in special):
            dropped["control_token_in_text"] += 1
        elif len(example.messages) > max_length:  # rendering takes time squared in the turns
            dropped["longer_than_max_length"] += 1
        else:
            ids.add(example.id)
            examples.append(example)
    encoded = encode([example.messages for example in examples], prompt, tokenizer)
    lengths = [len(item.input_ids) for item in encoded]
    kept: list[tuple[Example, Encoded]] = []
    for example, item in zip(examples, encoded, strict=True):
        if len(item.input_ids) > max_length:
            dropped["longer_than_max_length"] += 1
        elif item.targets == 0:
            dropped["reply_merged_with_header"] += 1
        else:
            kept.append((example, item))
    if not kept:
        raise UserError(_nothing_left(rows, dropped, lengths, max_length))
    splits = split_groups([example for example, _ in kept], val_size, test_size, seed)
    by_id = {example.id: item for example, item in kept}
    return Curated(
        splits=splits,
        encoded={name: [by_id[example.id] for example in splits[name]] for name in SPLITS},
        seen=rows.seen,
        dropped=dropped,
        rejected=rows.rejected,
        lengths=lengths,
    )


def _refuse_bad(rows: Rows) -> None:
    if not rows.seen:
        raise UserError("data.source: there are no rows in it")
    if len(rows.rejected) > MOST_REJECTED * rows.seen:
        reasons = Counter(item.reason for item in rows.rejected)
        shown = "\n".join(f"  {item.where}: {item.reason}" for item in rows.rejected[:SHOWN])
        raise UserError(
            f"data.source: {len(rows.rejected)} of {rows.seen} rows cannot be used "
            f"({', '.join(f'{reason}: {n}' for reason, n in reasons.most_common())}); up to "
            f"{MOST_REJECTED:.0%} would be dropped and counted. The first:\n{shown}"
        )


def _nothing_left(
    rows: Rows, dropped: Counter[str], lengths: Sequence[int], max_length: int
) -> str:
    account = ", ".join(f"{reason}: {n}" for reason, n in dropped.most_common())
    if dropped["longer_than_max_length"] and lengths:
        return (
            f"data.max_length: {max_length} tokens leave nothing to train on: the shortest of "
            f"{len(lengths)} rows has {min(lengths)} tokens, the longest {max(lengths)}. "
            f"Dropped: {account}"
        )
    return f"data.source: none of {rows.seen} rows is left to train on. Dropped: {account}"


def leaks(splits: dict[str, list[Example]]) -> dict[str, int]:
    """Test rows that also stand in train or val: as a prompt, as a reply, case and spacing apart.

    Returns:
        `test_rows`, `prompts_in_train` and `replies_in_train` (counts of rows).
    """

    def plain(text: str) -> str:
        return " ".join(text.lower().split())

    learned = splits["train"] + splits["val"]
    prompts = {plain(example.prompt[-1].content) for example in learned}
    replies = {plain(example.reply) for example in learned}
    return {
        "test_rows": len(splits["test"]),
        "prompts_in_train": sum(plain(e.prompt[-1].content) in prompts for e in splits["test"]),
        "replies_in_train": sum(plain(e.reply) in replies for e in splits["test"]),
    }
