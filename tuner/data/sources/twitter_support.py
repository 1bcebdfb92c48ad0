"""Customer support on Twitter: 2.8 million tweets, published on Kaggle (CC BY-NC-SA 4.0).

The file `twcs.csv` of thoughtvector/customer-support-on-twitter has a line a tweet: tweet_id,
author_id (a number for a customer, a name for a company), inbound (from a customer), created_at,
text, response_tweet_id, in_response_to_tweet_id. The tweets are by real people.
"""

from __future__ import annotations

import csv
import html
import re
from array import array
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tuner.data.example import Example, Item, Message, Rejected, Skipped
from tuner.data.language import looks_english
from tuner.data.reading import Located, Row, existing
from tuner.data.redact import redact
from tuner.data.sources.base import Source
from tuner.errors import UserError

Cells = tuple[int, int, list[str]]  # byte offset, line, cells
COLUMNS = ("tweet_id", "author_id", "inbound", "text", "in_response_to_tweet_id")
LONE_RETURN = re.compile(r"\r(?!\n)")
LINK = re.compile(r"https?://\S+|\bt\.co/\w+")
LEADING_HANDLES = re.compile(r"^(?:\s*\.?@\w+)+[\s,:]*")
CUSTOMER_HANDLE = re.compile(r"@\d+")
# An agent's mark at the end: ^AB, *JB, /AB, -John, - AB.
# "^AB", "*Ann", " /JV"; " -JV", "= JJ"; and behind a sentence "- Anwar". "2/2" may follow.
SIGNATURE = re.compile(
    r"\s*(?:[\^*~]\s?[A-Za-z][A-Za-z.]{0,14}|(?<=\s)/\s?[A-Z][A-Za-z]{0,11}"
    r"|(?<=[\s.!?])[-\u2013\u2014=]{1,2}\s?[A-Z]{2}\.?|(?<=\s)[-\u2013\u2014]{1,2}[A-Z][A-Za-z]{0,11}"
    r"|(?:(?<=[.!?)])|(?<=[.!?)]\s)|(?<=hanks))[-\u2013\u2014]{1,2}\s?[A-Z][A-Za-z]{0,11})"
    r"(?:\s\d/\d)?\s*$"
)


class TwitterSupport(Source):
    """Conversations of customers with companies (Thought Vector 2017).

    Handles in front, links and agents' signatures are taken out of both sides, inner customer
    handles become `@user`. A thread is a group, whatever is made of it; the company is the
    category. The file is read twice and never as a whole: memory is about 100 bytes a tweet.

    Args:
        path: the file twcs.csv.
        limit: use this many examples, drawn at random; all when null.
        seed: seed of that draw.
        threads: whole threads, from the first customer's tweet to the last reply of the company
            (the longest branch), instead of pairs of a tweet and its reply.
        companies: keep these; all when null.
        min_words: shortest message and reply, in words.
        english: keep what looks English, by its commonest words.
        redact: put marks in place of e-mail addresses, phone, card and order numbers.
    """

    licence = "CC BY-NC-SA 4.0"

    def __init__(
        self,
        path: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        threads: bool = False,
        companies: list[str] | None = None,
        min_words: int = 3,
        english: bool = True,
        redact: bool = True,
    ) -> None:
        super().__init__(path, limit, seed)
        if path is None:
            raise UserError(
                "data.source.path: TwitterSupport needs the file twcs.csv, which Kaggle offers as "
                "thoughtvector/customer-support-on-twitter; download it and name it here"
            )
        self.threads = threads
        self.companies = companies
        self.min_words = min_words
        self.english = english
        self.redact = redact

    def read(self) -> Iterator[Located]:
        """A row a conversation: `{"root": id, "tweets": [row, ...]}`, in the order of the file."""
        assert self.path is not None
        file = existing(self.path)
        if file.suffix.lower() == ".gz":
            raise UserError(
                f"data.source.path: {file}: TwitterSupport needs it unpacked: gunzip it"
            )
        try:
            with file.open("rb") as stream:
                index = _Index(stream, file)
                for line, reason in index.rejected:
                    yield f"{file}:{line}", Rejected(reason, f"{file}:{line}")
                for tweets in index.chains(whole=self.threads):
                    rows = [index.row(stream, tweet) for tweet in tweets]
                    where = f"{file}:{index.line[tweets[-1]]}"
                    yield where, {"root": str(index.ids[index.roots[tweets[-1]]]), "tweets": rows}
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror}") from error

    def example(self, row: Row, where: str) -> Item:
        """See the base class."""
        tweets: list[dict[str, str]] = row["tweets"]
        company = tweets[-1]["author_id"]
        if self.companies is not None and company not in self.companies:
            return Skipped("other_company", where)
        turns: list[Message] = []
        for inbound, said in groupby(tweets, key=_inbound):
            text = "\n".join(filter(None, (_plain(t["text"], inbound=inbound) for t in said)))
            turns.append(Message("user" if inbound else "assistant", text))
        if any(len(m.content.split()) < self.min_words for m in (turns[0], turns[-1])):
            return Skipped("too_short", where)
        if not all(m.content for m in turns):
            return Skipped("nothing_but_links", where)
        if self.english and not looks_english(" ".join(m.content for m in turns)):
            return Skipped("not_english", where)
        meta: dict[str, Any] = {"company": company, "tweets": len(tweets), "where": where}
        if self.redact:
            found = [redact(message.content) for message in turns]
            turns = [Message(m.role, text) for m, (text, _) in zip(turns, found, strict=True)]
            counts: dict[str, int] = {}
            for kind, count in (item for _, kinds in found for item in kinds.items()):
                counts[kind] = counts.get(kind, 0) + count
            meta |= {"redacted": counts} if counts else {}
        return Example(tuple(turns), group=row["root"], category=company, meta=meta)


def _inbound(tweet: dict[str, str]) -> bool:
    return tweet["inbound"].strip().lower() == "true"


def _plain(text: str, *, inbound: bool) -> str:
    """A tweet without handles in front, links and, on a company's side, the agent's signature."""
    text = LINK.sub("", html.unescape(text))
    text = CUSTOMER_HANDLE.sub("@user", LEADING_HANDLES.sub("", text))
    text = " ".join(text.split())
    return text if inbound else SIGNATURE.sub("", text)


class _Index:
    """Where each tweet stands and which it answers, in arrays over all tweets.

    Args:
        stream: the file, read once from its beginning.
        file: its name, for messages.
    """

    def __init__(self, stream: IO[bytes], file: Path) -> None:
        self.names, rows = _header(stream, file)
        ids, parents, offsets, line, inbound = (array(kind) for kind in "qqqqb")
        self.rejected: list[tuple[int, str]] = []  # line and reason
        for offset, number, cells in rows:
            if len(cells) != len(self.names):
                self.rejected.append((number, "wrong_number_of_cells"))
                continue
            row = dict(zip(self.names, cells, strict=True))
            try:
                one = array("q", [int(row["tweet_id"])])
                answered = array("q", [int(float(row["in_response_to_tweet_id"] or -1))])
            except (ValueError, OverflowError):
                self.rejected.append((number, "tweet_id_is_no_number"))
                continue
            ids += one
            parents += answered
            offsets.append(offset)
            line.append(number)
            inbound.append(_inbound(row))
        self.ids = np.array(ids, dtype=np.int64)
        self.line = np.array(line, dtype=np.int64)
        self.offsets = np.array(offsets, dtype=np.int64)
        self.inbound = np.array(inbound, dtype=np.bool_)
        self.parents = self._places(np.array(parents, dtype=np.int64))
        self.roots, self.depths = self._roots_and_depths()

    def _places(self, wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The place of each id; its own place where there is no tweet of that id."""
        own = np.arange(len(self.ids))
        if not len(own):
            return own
        order = np.argsort(self.ids, kind="stable")
        found = np.minimum(np.searchsorted(self.ids[order], wanted), len(own) - 1)
        return np.where(self.ids[order][found] == wanted, order[found], own)

    def _roots_and_depths(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The first tweet of each tweet's thread and how far it is, by pointer jumping."""
        roots = self.parents
        depths = (roots != np.arange(len(roots))).astype(np.int64)
        for _ in range(len(roots).bit_length()):  # doubles the distance each time
            further = roots[roots]
            if np.array_equal(further, roots):
                break
            depths, roots = depths + depths[roots], further
        return roots, depths

    def chains(self, *, whole: bool) -> Iterator[list[int]]:
        """Tweets of each conversation in order, each ending with a company's reply."""
        replies = np.flatnonzero(~self.inbound & self.inbound[self.parents])
        if not whole:
            yield from ([int(self.parents[place]), int(place)] for place in replies)
            return
        longest: dict[int, int] = {}
        for place in replies.tolist():
            root = int(self.roots[place])
            if root not in longest or self.depths[place] > self.depths[longest[root]]:
                longest[root] = place
        for place in longest.values():
            chain = self._chain(place)
            first = next(i for i, tweet in enumerate(chain) if self.inbound[tweet])
            yield chain[first:]

    def _chain(self, place: int) -> list[int]:
        """The tweets from the first of a thread to this one."""
        chain, seen = [place], {place}
        while (parent := int(self.parents[chain[-1]])) not in seen:
            chain.append(parent)
            seen.add(parent)
        return chain[::-1]

    def row(self, stream: IO[bytes], place: int) -> dict[str, str]:
        """The cells of a tweet."""
        stream.seek(int(self.offsets[place]))
        cells = next(csv.reader(map(_decoded, stream)))
        return dict(zip(self.names, cells, strict=True))


def _decoded(line: bytes) -> str:
    # Tweets hold carriage returns, which the csv module takes for the end of a row.
    return LONE_RETURN.sub(" ", line.decode())


def _header(stream: IO[bytes], file: Path) -> tuple[list[str], Iterator[Cells]]:
    """Column names, and the rows behind them with their byte offset and line."""
    position = 0

    def lines() -> Iterator[str]:
        nonlocal position
        for number, line in enumerate(stream, start=1):
            position += len(line)
            try:
                yield _decoded(line)
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{file}:{number}: not UTF-8 ({error.reason}); save the file as UTF-8, for "
                    "example: iconv -f WINDOWS-1252 -t UTF-8"
                ) from error

    reader = csv.reader(lines(), strict=True)
    try:
        names = [name.lstrip("\ufeff").strip() for name in next(reader, [])]
    except csv.Error as error:
        raise UserError(f"{file}:1: not valid CSV: {error}") from error
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise UserError(f"{file}:1: no column {missing[0]}; TwitterSupport reads {COLUMNS}")

    def rows() -> Iterator[Cells]:
        while True:
            offset, number = position, reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise UserError(f"{file}:{number}: not valid CSV: {error}") from error
            if cells is None:
                return
            if cells:
                yield offset, number, cells

    return names, rows()
