"""Systems that need no training, against small cases worked out by hand."""

from __future__ import annotations

import pytest

from tuner.data.example import Example, Message
from tuner.errors import UserError
from tuner.evaluation.baselines import majority, nearest, shots, with_shots


def talk(question: str, reply: str, category: str = "", system: str = "") -> Example:
    first = (Message("system", system),) if system else ()
    turns = (Message("user", question), Message("assistant", reply))
    return Example((*first, *turns), group=question, category=category)


TRAIN = [
    talk("where is my parcel", "On its way.", "delivery"),
    talk("has my parcel been sent", "It was sent.", "delivery"),
    talk("when does the parcel come", "It was sent.", "delivery"),
    talk("i want my money back", "Of course.", "refund"),
    talk("money back please", "Certainly.", "refund"),
    talk("hello", "It was sent.", "other"),
]


def test_the_majority_is_counted_in_the_category_and_ties_go_to_the_first() -> None:
    asked = [talk("a", "", "delivery"), talk("b", "", "refund"), talk("c", "", "unseen")]
    assert majority(TRAIN, asked) == ["It was sent.", "Of course.", "It was sent."]


def test_the_nearest_prompt_answers() -> None:
    asked = [talk("please give my money back", ""), talk("hello there", ""), talk("xyz", "")]
    assert nearest(TRAIN, asked) == ["Certainly.", "It was sent.", "On its way."]
    assert nearest(TRAIN, TRAIN) == [example.reply for example in TRAIN]


def test_blocks_of_the_table_make_no_difference() -> None:
    many = [talk(f"word{n} parcel", f"reply {n}") for n in range(300)]
    assert nearest(many, many[::-1]) == [example.reply for example in many[::-1]]
    assert nearest([talk("???", "a"), talk("!", "b")], [talk("", "")]) == ["a"], "no word at all"


def test_shots_fit_do_not_depend_on_order_and_stand_behind_the_system_message() -> None:
    chosen = shots(TRAIN, 2, seed=1, fits=lambda turns: True)
    assert chosen == shots(TRAIN[::-1], 2, seed=1, fits=lambda turns: True)
    assert chosen != shots(TRAIN, 2, seed=3, fits=lambda turns: True)
    assert [turn.role for turn in chosen] == ["user", "assistant"] * 2
    short = shots(TRAIN, 1, seed=1, fits=lambda turns: len(turns[-1].content) < 11)
    assert len(short[1].content) < 11
    asked = talk("and now?", "", system="Be brief.").prompt
    assert with_shots(asked, chosen) == (asked[0], *chosen, asked[1])
    with pytest.raises(UserError, match="only 1 training rows fit"):
        shots(TRAIN, 2, seed=1, fits=lambda turns: len(turns) < 3)
