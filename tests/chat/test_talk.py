"""What each system is asked, remembers and forgets."""

from __future__ import annotations

from typing import Any

import pytest
from speakers import Scripted

from tuner.chat.settings import Settings
from tuner.chat.talk import Talk
from tuner.errors import UserError


def make_talk(
    replies: dict[str, Any], most: int = 4, system: str | None = None, **more: Any
) -> tuple[Talk, Scripted]:
    speaker = Scripted(replies, **more)
    speaking: Any = speaker
    return Talk(speaking, Settings(max_new_tokens=most), system), speaker


def say(talk: Talk, text: str) -> dict[str, str]:
    turn = talk.ask(text)
    for name in talk.names:
        for _ in talk.reply(turn, name):
            pass
    return {name: said.text for name, said in turn.said.items()}


def test_each_system_goes_on_with_its_own_replies() -> None:
    talk, speaker = make_talk({"base": "one", "lora": "two"})
    assert say(talk, " hi\n") == {"base": "one", "lora": "two"}
    say(talk, "and?")
    assert speaker.asked[2:] == [
        ("base", "U:hi A:one U:and?"),
        ("lora", "U:hi A:two U:and?"),
    ]
    talk.reset()
    say(talk, "new")
    assert speaker.asked[-1] == ("lora", "U:new")


def test_a_system_prompt_stands_in_front_of_all_of_it() -> None:
    talk, speaker = make_talk({"lora": "yes"}, system="Be brief.")
    say(talk, "a")
    talk.instruct("Be long.")
    say(talk, "b")
    talk.instruct(None)
    say(talk, "c")
    assert [asked for _, asked in speaker.asked] == [
        "S:Be brief. U:a",
        "S:Be long. U:a A:yes U:b",
        "U:a A:yes U:b A:yes U:c",
    ]


def test_a_rendering_without_system_prompts_says_so_and_nothing_changes() -> None:
    talk, _ = make_talk({"lora": "yes"}, systems=False)
    with pytest.raises(UserError, match="no system prompt"):
        talk.instruct("Be brief.")
    assert talk.system is None
    assert say(talk, "a") == {"lora": "yes"}
    with pytest.raises(UserError, match="no system prompt"):
        make_talk({"lora": "yes"}, system="Be brief.", systems=False)


def test_the_oldest_turns_leave_when_there_is_no_room() -> None:
    talk, speaker = make_talk({"base": "b", "lora": "l l l"}, most=3, room=12)
    gone: list[dict[str, int]] = []
    for number in range(40):
        turn = talk.ask(f"q{number}")
        gone.append(turn.forgotten)
        for name in talk.names:
            assert len(turn.headers[name]) + 3 <= 12
            list(talk.reply(turn, name))
    assert gone[:4] == [{"base": 0, "lora": n} for n in (0, 0, 0, 1)]
    assert gone[-1] == {"base": 1, "lora": 1}
    assert speaker.asked[-1] == ("lora", "U:q37 A:l l l U:q38 A:l l l U:q39")
    assert speaker.asked[-2][1].startswith("U:q35 A:b ")


def test_a_message_without_room_is_refused_and_nothing_is_forgotten() -> None:
    talk, speaker = make_talk({"lora": "l"}, most=3, room=8)
    say(talk, "first")
    with pytest.raises(UserError, match="takes 6 tokens and the reply up to 3"):
        talk.ask("one two three four five six")
    say(talk, "next")
    assert speaker.asked[-1][1] == "U:first A:l U:next"


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_an_empty_message_is_no_turn(text: str) -> None:
    talk, speaker = make_talk({"lora": "l"})
    with pytest.raises(UserError, match="empty"):
        talk.ask(text)
    assert not speaker.asked


def test_what_was_written_before_a_stop_is_the_reply() -> None:
    talk, speaker = make_talk({"lora": "one two three four"})
    turn = talk.ask("a")
    saids = talk.reply(turn, "lora")
    next(saids)
    next(saids)
    saids.close()
    assert (turn.said["lora"].text, turn.said["lora"].stop_reason) == ("one two", "stopped")
    assert speaker.stopped == 1
    say(talk, "b")
    assert speaker.asked[-1][1] == "U:a A:one two U:b"


def test_a_turn_without_an_answer_is_not_remembered() -> None:
    talk, speaker = make_talk({"lora": lambda draw: "" if draw == 2 else "yes"})
    say(talk, "a")
    assert say(talk, "b") == {"lora": ""}
    turn = talk.ask("c")
    talk.reply(turn, "lora").close()  # stopped before its first token
    say(talk, "d")
    assert speaker.asked[-1][1] == "U:a A:yes U:d"


def test_half_a_surrogate_pair_can_be_asked() -> None:
    talk, speaker = make_talk({"lora": "yes"}, system="\ud800 x")
    say(talk, "\udfff y")
    assert speaker.asked[-1][1] == "S:? x U:? y"
