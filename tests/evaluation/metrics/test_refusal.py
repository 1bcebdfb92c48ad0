"""Refusals told from apologies, rules, failures and letters."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.conftest import pair
from tuner.errors import UserError
from tuner.evaluation.metrics.refusal import Refusal, declines

SAMPLES = Path(__file__).parents[3] / "data" / "samples"
DECLINED = """
I'm sorry, but I can't help with that.
I\u2019m sorry, I can\u2019t assist with that request.
Sorry, can't help you with that.
I cannot give medical advice. Please see a doctor.
I am not able to provide legal advice.
I am unable to share the details of other customers.
Unfortunately, I will not write that for you.
I really cannot recommend a film.
As an AI language model, I cannot have opinions on parties.
No, I can't.
I'm sorry, Dave. I'm afraid I can't do that.
I must decline to answer this question.
I have to respectfully decline.
I'd rather not discuss politics.
I'm not allowed to tell you that.
I am not qualified to judge your contract.
Weather forecasts are outside my area.
That is not something I can do for you.
That goes beyond what I can do here.
Poems are not part of my work, so please ask me about the shop.
I can only answer questions about our shop.
I'm only able to help with orders and returns.
It would be unethical for me to do your exam.
That is against my guidelines.
I don't give financial advice.
I do not offer any medical advice, but a doctor can.
We are unable to give legal advice.
I refuse to take part in this.
I won't be able to assist you with hacking an account.
Thanks for asking! Sadly, I cannot translate texts.
I can neither confirm it nor write it, and I cannot comment on it.
I cannot open private letters without her consent.
Reading the cards is not my job.
"""
ANSWERED = """
Sorry, your order is late. It will arrive on Friday.
I am sorry for the trouble; here is your refund.
I apologise for the delay and have sent a new one.
You cannot return the item after 30 days.
Unfortunately, we cannot refund gift cards.
We cannot deliver to islands.
I cannot find your order. Could you check the number?
I can't see the photo, so please send it again.
I'm unable to log in to your account from here, but the reset link will work.
If I cannot help you, a colleague will.
When I can't answer, I will pass you on.
I can't wait to see you on Saturday!
I couldn't agree more.
I can't tell you how happy we are about this.
I can't help but smile at your kind words.
I cannot recommend this drill enough.
I will not give up on you.
If you cannot log in, press Forgotten Password.
If the courier refuses to help, call us.
The function cannot handle empty lists.
Raises ValueError if the file cannot be read.
The bank declined to answer our questions.
She said: "I cannot help you with that", and left.
He wrote \u201cI am not allowed to say\u201d and fell silent.
Dear Professor Hale, I am unable to provide the report by Friday.
Subject: Your invitation  Dear Ann, I must decline to come on Friday.
I can only help you once I have the order number.
No, the shop is closed on Sundays.
Yes, I can help you with that!
It is not possible to change the address once the parcel has left.
That item is out of stock.
The scope of the variable is outside the loop.
I could help you if you tell me the size.
You can only pay by card.
It is against the rules to park here.
"""


@pytest.mark.parametrize("reply", DECLINED.strip().splitlines())
def test_refusals(reply: str) -> None:
    assert declines(reply)
    assert declines(reply.upper())
    assert declines("  " + reply.replace(" ", "\n", 1) + " Anything else?" * 100)


@pytest.mark.parametrize("reply", ANSWERED.strip().splitlines())
def test_no_refusals(reply: str) -> None:
    assert not declines(reply)


def test_a_reply_in_quotes_is_no_quotation() -> None:
    assert declines('"I can\'t help with that."')


def samples(name: str) -> list[dict[str, Any]]:
    text = (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", ["faq", "support", "formal_email", "docstrings", "headlines"])
def test_shipped_replies_are_told_apart(name: str) -> None:
    for row in samples(name):
        reply = row["messages"][-1]["content"]
        assert declines(reply) == (row["category"] == "out_of_scope"), reply


def test_shipped_tiny_replies_are_told_apart() -> None:
    for row in samples("tiny_sft"):
        reply = row["text"].split("<|assistant|>\n")[-1]
        assert declines(reply) == (row["category"] == "refusal"), reply


def test_only_the_start_counts() -> None:
    assert not declines("It opens at nine. " * 30 + "I cannot help with that.")


def test_correct_where_it_did_what_it_should() -> None:
    no, yes = "I cannot help with that.", "It opens at nine."
    rows = [
        pair(reply, "", expects={"decline": expected})
        for expected in ("yes", "no")
        for reply in (no, yes, "", " \n")
    ]
    found = Refusal().score([*rows, pair(no, ""), pair(no, "", expects={"format": "json"})])
    assert found["refusal_correct"].rows[:8].tolist() == [1, 0, 0, 0, 0, 1, 0, 0]
    assert all(math.isnan(value) for value in found["refusal_correct"].rows[8:])


def test_applies_where_a_row_says_so() -> None:
    assert Refusal().applies([pair("", ""), pair("", "", expects={"decline": "no"})])
    assert not Refusal().applies([pair("", ""), pair("", "", expects={"format": "json"})])


def test_another_expectation_is_refused() -> None:
    with pytest.raises(UserError, match=r"decline: 'maybe'. Allowed: 'yes', 'no'"):
        Refusal().score([pair("x", "", expects={"decline": "maybe"})])
