"""The steps that look at one row at a time: filter, repair, redact, render, tokenise."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tuner.data.annotate import annotate
from tuner.data.curation import Curation
from tuner.data.encode import Encoded, encode
from tuner.data.example import Example, Message, digest
from tuner.data.language import looks_english
from tuner.data.near import SIGNATURE, plain, question, shingles, signature
from tuner.data.prompts import Prompt
from tuner.data.prompts.base import special_texts
from tuner.data.redact import redact
from tuner.data.store import as_batch
from tuner.data.trim import shorten, trim
from tuner.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLE_MARK = re.compile(
    r"<\|(?:user|assistant|system|im_start|im_end|eot_id|start_header_id|end_header_id)\|>"
    r"|\[/?INST\]|<</?SYS>>|^(?:### ?)?(?:Instruction|Input|Response|Human|User|Assistant|System"
    r"|Customer message|Agent response|Query|Intent) ?:",
    re.MULTILINE | re.IGNORECASE,
)
LETTER = re.compile(r"[^\W\d_]")
LATIN = 0x250  # characters below it: Latin letters with and without accents


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that a step took out."""

    step: str
    reason: str
    where: str


@dataclass
class Cleaned:
    """What became of a block of rows.

    Attributes:
        batch: the rows that are left, as the store has them.
        ids: (n,) uint64 hash of each conversation.
        draws: (n,) uint64 draw of each row's group.
        prompts: (n,) uint64 hash of all before the reply, case, punctuation and spacing apart.
        replies: (n,) uint64 hash of the reply, likewise.
        lengths: (n,) int32 tokens.
        targets: (n,) int32 tokens with loss.
        signatures: (n, 120) uint32 MinHash values of the same.
        sizes: (n,) int32 pieces that these were made of.
        all_lengths: tokens of each row before the length limit.
        dropped: rows taken out.
        changed: rows changed, by step.
        flagged: rows with something to look at: what it is, and where.
        reply_tokens: tokens with loss of all rows, before the length limit.
        redacted: what was redacted, by kind, by this step or by the source.
    """

    batch: Any  # pyarrow.RecordBatch
    ids: npt.NDArray[np.uint64]
    draws: npt.NDArray[np.uint64]
    prompts: npt.NDArray[np.uint64]
    replies: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    signatures: npt.NDArray[np.uint32]
    sizes: npt.NDArray[np.int32]
    all_lengths: npt.NDArray[np.int32]
    dropped: list[Dropped] = field(default_factory=list[Dropped])
    changed: Counter[str] = field(default_factory=Counter[str])
    flagged: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    reply_tokens: int = 0
    redacted: Counter[str] = field(default_factory=Counter[str])


STEPS = ("keywords", "language", "charset", "redaction", "control_tokens", "length")


class Cleaner:
    """Applies the steps to blocks of rows; knows nothing of rows outside the block.

    Args:
        rules: what to do.
        prompt: how a conversation is written out as text.
        tokenizer: the base model's.
        max_length: longest row in tokens.
        seed: seed of the groups' draws.
    """

    def __init__(
        self,
        rules: Curation,
        prompt: Prompt,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        seed: int,
    ) -> None:
        self.rules = rules
        self.prompt = prompt
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.seed = seed
        self.special = special_texts(tokenizer)
        longest = max(map(len, tokenizer.get_vocab()))
        self.characters = 4 * max_length * longest  # tokenizers may leave some out
        words = "|".join(re.escape(word) for word in rules.keywords)
        self.keywords = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) if words else None

    def __call__(self, examples: Sequence[Example]) -> Cleaned:
        """Clean, render and tokenise a block of rows."""
        dropped: list[Dropped] = []
        changed = Counter[str]()
        flagged: list[tuple[str, str]] = []
        redacted = Counter[str]()
        wanted: list[Example] = []
        for example in examples:
            found = self._why_not(example)
            if found is None and self.rules.redact:
                example = _redacted(example)
            if found is None and any(
                mark in m.content for m in example.messages for mark in self.special
            ):
                found = "control_tokens", "control_token_in_text"
            if found is None and (shorter := self._within_reason(example)) is not example:
                if shorter is None:
                    found = "length", "longer_than_max_length"
                else:
                    example = shorter
                    changed["length"] += 1
            if found is not None:
                dropped.append(Dropped(*found, str(example.meta.get("where", ""))))
                continue
            if any(ROLE_MARK.search(message.content) for message in example.messages):
                flagged.append(("role_mark_in_text", str(example.meta.get("where", ""))))
            if _counts(marks := example.meta.get("redacted")):
                changed["redaction"] += 1
                redacted.update(marks)
            wanted.append(annotate(example, self.rules.annotate))
        encoded = encode([example.messages for example in wanted], self.prompt, self.tokenizer)
        all_lengths = np.array([len(item.input_ids) for item in encoded], dtype=np.int32)
        kept: list[tuple[Example, Encoded]] = []
        for example, item in zip(wanted, encoded, strict=True):
            fitting = self._fitting(example, item)
            if isinstance(fitting, str):
                where = str(example.meta.get("where", ""))
                dropped.append(Dropped("length", fitting, where))
            else:
                kept.append(fitting)
                changed["length"] += fitting[0] is not example and "trimmed" not in example.meta
        questions = [question(example.messages) for example, _ in kept]
        pieces = [shingles(text) for text in questions]
        return Cleaned(
            batch=as_batch(kept),
            ids=_hashes([example.id for example, _ in kept]),
            draws=_hashes([digest([self.seed, example.group]) for example, _ in kept]),
            prompts=_hashes([digest(plain(text)) for text in questions]),
            replies=_hashes([digest(plain(example.reply)) for example, _ in kept]),
            lengths=np.array([len(item.input_ids) for _, item in kept], dtype=np.int32),
            targets=np.array([item.targets for _, item in kept], dtype=np.int32),
            signatures=np.array([signature(p) for p in pieces], np.uint32).reshape(-1, SIGNATURE),
            sizes=np.array([len(p) for p in pieces], dtype=np.int32),
            all_lengths=all_lengths,
            dropped=dropped,
            changed=changed,
            flagged=flagged,
            redacted=redacted,
            reply_tokens=sum(item.targets for item in encoded),
        )

    def _why_not(self, example: Example) -> tuple[str, str] | None:
        """Step and reason for which a filter passes over a row."""
        text = "\n".join(message.content for message in example.messages)
        if self.keywords and not self.keywords.search(text):
            return "keywords", "no_keyword"
        if self.rules.language and not looks_english(text):
            return "language", "not_english"
        letters = LETTER.findall(text) if self.rules.charset else []
        if sum(ord(letter) >= LATIN for letter in letters) > len(letters) / 10:
            return "charset", "not_latin"
        return None

    def _within_reason(self, example: Example) -> Example | None:
        """The row, cut if it could not fit by far: tokenising it whole would take minutes.

        A turn takes a token at least, and a token holds so many characters at most.
        """
        characters = sum(len(message.content) for message in example.messages)
        if len(example.messages) <= self.max_length and characters <= self.characters:
            return example
        if self.rules.overlong == "error":
            raise self._too_long(
                example, f"{len(example.messages):,} turns and {characters:,} characters"
            )
        if self.rules.overlong == "drop":
            return None
        shorter = shorten(example, self.max_length, self.characters)
        return shorter and replace(shorter, meta={**shorter.meta, "trimmed": True})

    def _too_long(self, example: Example, size: str) -> UserError:
        return UserError(
            f"data.max_length: {example.meta.get('where', example.id)} has {size}, more than "
            f"{self.max_length} tokens; raise it, or set data.curation.overlong to drop or trim"
        )

    def _fitting(self, example: Example, item: Encoded) -> tuple[Example, Encoded] | str:
        """The row, trimmed where the rules say so, or the reason why it cannot be used."""
        if len(item.input_ids) > self.max_length:
            if self.rules.overlong == "error":
                raise self._too_long(example, f"{len(item.input_ids)} tokens")
            shorter = None
            if self.rules.overlong == "trim":
                shorter = trim(example, self.max_length, lambda m: len(self._one(m).input_ids))
            if shorter is None:
                return "longer_than_max_length"
            meta = {**shorter.meta, "trimmed": True}
            example, item = replace(shorter, meta=meta), self._one(shorter.messages)
        return (example, item) if item.targets else "reply_merged_with_header"

    def _one(self, messages: Sequence[Message]) -> Encoded:
        return encode([messages], self.prompt, self.tokenizer)[0]


def _redacted(example: Example) -> Example:
    """The example with personal data replaced; meta counts what there was."""
    found = [redact(message.content) for message in example.messages]
    counts = sum((Counter(kinds) for _, kinds in found), Counter[str]())
    if not counts:
        return example
    turns = [replace(m, content=text) for m, (text, _) in zip(example.messages, found, strict=True)]
    earlier = Counter(example.meta["redacted"] if _counts(example.meta.get("redacted")) else {})
    meta = {**example.meta, "redacted": dict(earlier + counts)}
    return replace(example, messages=tuple(turns), meta=meta)


def _counts(value: Any) -> bool:
    """Whether a meta value is a source's count of what it redacted, and no column of that name."""
    return isinstance(value, dict) and all(type(n) is int for n in value.values())


def _hashes(digests: Sequence[str]) -> npt.NDArray[np.uint64]:
    return np.array([int(digest_, 16) for digest_ in digests], dtype=np.uint64)
