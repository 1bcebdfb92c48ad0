"""Tweets become pairs or threads; the rows here are invented."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuner.data.example import Example
from tuner.data.sources.twitter_support import SIGNATURE, TwitterSupport
from tuner.errors import UserError

BAD_IDS = [(2**63, 1), ("9" * 30, 1), (77, "inf"), (78, "1e300"), (79, "x"), ("", 1), (80, "nan")]
Write = Callable[..., str]
HEADER = ("tweet_id", "author_id", "inbound", "created_at", "text", "response_tweet_id",
          "in_response_to_tweet_id")  # fmt: skip
# id, author, text, answers
TWEETS = [
    (1, "901", "@AcmeHelp my kettle does not work &amp; I am\nvery sad https://t.co/abc", None),
    (2, "AcmeHelp", "@901 We are sorry to hear that, is it the blue one? ^JB", 1),
    (3, "901", "@AcmeHelp Yes it is, the blue kettle", 2),
    (4, "901", "@AcmeHelp and it leaks, too", 3),
    (5, "AcmeHelp", "@901 Please send us order 44-1234 at help@acme.example.org -Kim", 4),
    (6, "902", "@BahnBot Wann kommt der Zug nach Hause an, bitte?", None),
    (7, "BahnBot", "@902 Der Zug ist in zehn Minuten da. /MM", 6),
    (8, "903", "@AcmeHelp hi", None),
    (9, "AcmeHelp", "@903 Hi there, how can we help you today? *AB", 8),
    (10, "AcmeHelp", "We are open again on Monday!", None),
    (11, "904", "@AcmeHelp is the shop of @12345 open on Monday?", None),
    (12, "AcmeHelp", "@904 Yes, it is open, see you on Monday then.", 11),
    (13, "AcmeHelp", "@901 And what is the name of the shop?", 1),
    (14, "905", "@AcmeHelp This answers a tweet that is not in the file, is it?", 999),
    (15, "AcmeHelp", "@905 It looks like it does, thanks for telling us.", 14),
]


def table(tweets: list[tuple[Any, ...]], newline: str = "\n") -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=newline)
    writer.writerow(HEADER)
    for number, author, text, answers in tweets:
        inbound = str(author).isdigit()
        writer.writerow([number, author, inbound, "", text, "", "" if answers is None else answers])
    return out.getvalue()


def read(path: str, **settings: Any) -> list[Example]:
    return TwitterSupport(path, **settings).rows().examples


def texts(example: Example) -> list[str]:
    return [message.content for message in example.messages]


@pytest.fixture
def path(write: Write) -> str:
    return write("twcs.csv", table(TWEETS))


def test_pairs(path: str) -> None:
    found = {e.meta["where"].rpartition(":")[2]: e for e in read(path)}
    assert list(map(texts, found.values())) == [
        ["my kettle does not work & I am very sad",
         "We are sorry to hear that, is it the blue one?"],
        ["and it leaks, too", "Please send us order [ORDER] at [EMAIL]"],
        ["is the shop of @user open on Monday?", "Yes, it is open, see you on Monday then."],
        ["my kettle does not work & I am very sad", "And what is the name of the shop?"],
        ["This answers a tweet that is not in the file, is it?",
         "It looks like it does, thanks for telling us."],
    ]  # fmt: skip
    assert [e.group for e in found.values()] == ["1", "1", "11", "1", "14"], "a thread is a group"
    assert {e.category for e in found.values()} == {"AcmeHelp"}
    assert list(found) == ["4", "7", "14", "15", "17"], "the line of the reply; one tweet has two"
    assert found["7"].meta["redacted"] == {"email": 1, "order": 1}


def test_threads_take_the_longest_branch_and_join_tweets_of_a_side(path: str) -> None:
    found = {e.group: e for e in read(path, threads=True)}
    assert found.keys() == {"1", "11", "14"}
    assert [m.role for m in found["1"].messages] == ["user", "assistant", "user", "assistant"]
    assert texts(found["1"])[2] == "Yes it is, the blue kettle\nand it leaks, too"
    assert found["1"].meta["tweets"] == 5


def test_filters(path: str) -> None:
    assert len(read(path, english=False)) == 6
    assert len(read(path, min_words=1)) == 6
    assert {e.category for e in read(path, companies=["BahnBot"], english=False)} == {"BahnBot"}
    assert "help@acme.example.org" in texts(read(path, redact=False)[1])[1]
    source = TwitterSupport(path, companies=["AcmeHelp"]).rows()
    assert source.seen == 7
    assert source.skipped == {"other_company": 1, "too_short": 1}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_order_line_ends_and_odd_signs_do_not_matter(newline: str, write: Write) -> None:
    odd = (20, "906", '@AcmeHelp a "quoted", broken\rline \U0001f600 is here', None)
    reply = (21, "AcmeHelp", "@906 It is here, \u201creally\u201d.", 20)
    path = write("twcs.csv", b"\xef\xbb\xbf" + table([*TWEETS, reply, odd][::-1], newline).encode())
    found = {tuple(texts(e)) for e in read(path)}
    assert len(found) == 6
    assert (
        'a "quoted", broken line \U0001f600 is here',
        "It is here, \u201creally\u201d.",
    ) in found


def test_a_circle_of_tweets_ends(write: Write) -> None:
    circle = [(1, "9", "@A one two three is it", 2), (2, "A", "@9 four five six it is", 1)]
    for threads in (False, True):
        assert len(read(write("twcs.csv", table(circle)), threads=threads)) <= 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("tweet_id,text\n1,a\n", r":1: no column author_id"),
        (table(TWEETS) + '22,"open', "not valid CSV"),
        (table(TWEETS).encode() + b"\xe9", r"twcs\.csv:\d+: not UTF-8"),
        (table([]), "there are no rows in it"),
        ('"tweet_id"x,text\n1,a\n', r":1: not valid CSV"),
    ],
)
def test_broken_files(content: Any, message: str, write: Write) -> None:
    with pytest.raises(UserError, match=message):
        read(write("twcs.csv", content))


def test_bad_tweets_are_counted(write: Write) -> None:
    content = table(TWEETS).replace("\n3,", "\nthree,") + "1,2\n"
    content += "".join(f"{one},A,False,x,hello there you,,{two}\n" for one, two in BAD_IDS)
    found = TwitterSupport(write("twcs.csv", content)).rows()
    reasons = [item.reason for item in found.rejected]
    assert reasons.count("wrong_number_of_cells") == 1
    assert reasons.count("tweet_id_is_no_number") == 1 + len(BAD_IDS)
    assert found.rejected[0].where.endswith("twcs.csv:5")
    assert found.examples


def test_a_packed_file_is_refused(write: Write) -> None:
    with pytest.raises(UserError, match="gunzip"):
        read(write("twcs.csv.gz", gzip.compress(table(TWEETS).encode())))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("We are on it. ^AB", "We are on it."),
        ("We are on it! *Jane 2/2", "We are on it!"),
        ("Please DM us. - Anwar", "Please DM us."),
        ("Let us know -JV", "Let us know"),
        ("Let us know --JV", "Let us know"),
        ("Let us know = JJ", "Let us know"),
        ("Many thanks-Anwar", "Many thanks"),
        ("Write back /RB", "Write back"),
        ("Answer yes/no", "Answer yes/no"),
        ("Open Settings/General", "Open Settings/General"),
        ("The train is London - Paris", "The train is London - Paris"),
        ("It runs at 90 km/h", "It runs at 90 km/h"),
    ],
)
def test_signatures_of_agents(text: str, left: str) -> None:
    assert SIGNATURE.sub("", text) == left


def test_the_file_must_be_named() -> None:
    with pytest.raises(UserError, match=r"data.source.path: TwitterSupport needs .*Kaggle"):
        TwitterSupport()


def test_the_real_file(shared: Path) -> None:
    path = str(shared / "data/twitter_support/twcs.csv")
    pairs, threads = read(path), read(path, threads=True)
    assert len(pairs) > 1000
    assert len({e.group for e in threads}) == len(threads) > 500
    for example in [*pairs, *threads]:
        assert [m.role for m in example.messages] == ["user", "assistant"] * (
            len(example.messages) // 2
        )
        assert not any("http" in m.content for m in example.messages)
