"""What of the test rows was also seen in training: equal, near-equal, or in runs of 13 words."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from tuner.data.near import question
from tuner.data.store import Store

WORDS = 13  # as GPT-3's appendix C has it (Brown et al. 2020, arXiv:2005.14165)
COMMON = 10  # training texts from which on a run of words is a common phrase (likewise)
FEW = 50  # one in so many, where there are few
BLOCK = 4096  # texts handled at a time
_MIX = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing, Knuth's 64-bit constant

pc: Any = pyarrow.compute  # its functions are made at run time
Hashes = npt.NDArray[np.uint64]


def ngrams(texts: Sequence[str]) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Hashes of all runs of 13 words in texts, case and punctuation apart.

    Returns:
        (G,) uint64 hashes and (G,) int64 places of their texts.
    """
    clean = pc.replace_substring_regex(
        pc.utf8_lower(pa.array(texts, pa.string())), r"[^\pL\pN]+", " "
    )
    words = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(clean))
    flat = words.values.dictionary_encode()
    known = np.array([zlib.crc32(word.encode()) for word in flat.dictionary.to_pylist()], np.uint64)
    codes = known[flat.indices.to_numpy(zero_copy_only=False)] * _MIX
    text = np.repeat(np.arange(len(texts)), np.diff(words.offsets.to_numpy()))
    count = len(codes) - WORDS + 1
    if count < 1:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    runs = np.zeros(count, np.uint64)
    for place in range(WORDS):
        runs = (runs * np.uint64(6364136223846793005)) + codes[place : place + count]
    whole = text[:count] == text[WORDS - 1 :]  # runs that stay within one text
    return runs[whole], text[:count][whole]


def shared_ngrams(test: Iterable[str], learned: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Which test texts share a run of 13 words with a learned text.

    Runs that more than 10 learned texts hold, or more than one in 50, are common phrases. They do
    not count, nor do runs that are made of one for the larger part, unless more than 25 words in a
    row are shared, which no more than one learned text in 10 holds: that is a passage.

    Returns:
        (number of test texts,) bool.
    """
    hashes, places, count = _all_ngrams(test)
    wanted = np.unique(hashes)
    if not len(wanted):
        return np.zeros(count, dtype=np.bool_)
    seen = np.zeros(len(wanted), dtype=np.int64)
    texts = 0
    for block in _blocks(learned):
        texts += len(block)
        runs, text = ngrams(block)
        place = np.minimum(np.searchsorted(wanted, runs), len(wanted) - 1)
        hit = wanted[place] == runs
        pairs = np.unique(place[hit] * BLOCK + text[hit])  # a run counts once a text
        seen += np.bincount(pairs // BLOCK, minlength=len(wanted))
    times = seen[np.searchsorted(wanted, hashes)]
    phrase = times > min(COMMON, max(texts // FEW, 1))
    leaked = times > 0
    for step in range(min(WORDS // 2 + 1, len(places))):
        beside = places[step:] == places[: len(places) - step]  # one text, `step` words apart
        leaked[step:] &= ~(beside & phrase[: len(phrase) - step])
        leaked[: len(leaked) - step] &= ~(beside & phrase[step:])
    passage = (times > 0) & (times <= min(COMMON, max(texts // 10, 1)))
    stretch = np.cumsum(np.diff(passage, prepend=False) | (np.diff(places, prepend=-1) != 0))
    leaked |= passage & (np.bincount(stretch)[stretch] > WORDS)
    shared = np.zeros(count, dtype=np.bool_)
    shared[places[leaked]] = True
    return shared


def _blocks(texts: Iterable[str]) -> Iterator[Sequence[str]]:
    rest = iter(texts)
    return iter(lambda: list(islice(rest, BLOCK)), [])


def _all_ngrams(texts: Iterable[str]) -> tuple[Hashes, npt.NDArray[np.int64], int]:
    hashes, places, count = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], 0
    for block in _blocks(texts):
        runs, text = ngrams(block)
        hashes.append(runs)
        places.append(text + count)
        count += len(block)
    return np.concatenate(hashes), np.concatenate(places), count


def leak_check(
    store: Store, rows: dict[str, npt.NDArray[np.int64]], index: dict[str, npt.NDArray[Any]]
) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Which test rows training has seen.

    A test row is contaminated when its question, all turns before the reply, is equal to that of
    a learned row but for case, punctuation and spacing, is a near duplicate of one, or shares a
    run of 13 words with one. Replies are counted apart: many good sets share their replies.

    Args:
        store: the rows.
        rows: which rows are `train`, `val` and `test`.
        index: arrays over all rows: `prompts`, `replies` (hashes) and `family`.

    Returns:
        (number of test rows,) bool, and the counts for the card.
    """
    test, learned = rows["test"], np.concatenate([rows["train"], rows["val"]])

    def equal(name: str) -> npt.NDArray[np.bool_]:
        return np.isin(index[name][test], index[name][learned])

    def questions(which: npt.NDArray[np.int64]) -> Iterator[str]:
        return map(question, store.stream(which))

    def replies(which: npt.NDArray[np.int64]) -> Iterator[str]:
        return (turns[-1].content for turns in store.stream(which))

    alike = equal("prompts")
    known = learned[np.isin(index["prompts"][learned], index["prompts"][test[alike]])]
    texts = set(questions(known))
    exact = np.zeros(len(test), dtype=np.bool_)
    exact[alike] = [text in texts for text in questions(test[alike])]
    found = {
        "prompts_exact": exact,
        "prompts_in_train": alike,
        "near_duplicates_in_train": equal("family"),
        "prompts_13gram": shared_ngrams(questions(test), questions(learned)),
        "replies_in_train": equal("replies"),
        "replies_13gram": shared_ngrams(replies(test), replies(learned)),
    }
    contaminated = (
        found["prompts_in_train"] | found["near_duplicates_in_train"] | found["prompts_13gram"]
    )
    counts = {"test_rows": len(test), "contaminated": int(contaminated.sum())}
    return contaminated, counts | {name: int(hits.sum()) for name, hits in found.items()}
