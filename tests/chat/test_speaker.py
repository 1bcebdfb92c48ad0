"""Replies in a chat are those of a comparison: same prompts, same weights, same decoding."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import tuner.chat.speaker as module
from tuner.chat.settings import Settings
from tuner.chat.speaker import Said, Speaker
from tuner.data.encode import encode
from tuner.data.example import Message
from tuner.errors import UserError
from tuner.evaluation.systems import find_systems
from tuner.generate import Reply, Sampling, generate, stop_ids

CPU = torch.device("cpu")
ASKED = (Message("system", "Be kind."), Message("user", "Where is my order?"))
MORE_ROOM = "--data.max_length=400"  # for virtual tokens
LONG = Settings(max_new_tokens=24)


def speaker_of(run: Path) -> Speaker:
    return Speaker(find_systems([str(run)], run.parent, with_base=True), torch.float32, CPU)


def whole(speaker: Speaker, name: str, settings: Settings = LONG, draw: int = 1) -> list[Said]:
    return list(speaker.say(name, speaker.header(ASKED), settings, draw))


@pytest.mark.parametrize(
    "options",
    [
        ["--model.head=LoRA"],
        [MORE_ROOM, "--model.head=PromptTuning"],
        [MORE_ROOM, "--model.head=PrefixTuning"],
        ["--model.head=LNTuning"],
        ["--model.head=Full"],
        ["--model.head=LoRA", "--model.quantize=nf4"],
        ["--model.head=LoRA", "--model.quantize=int8"],
    ],
    ids=lambda options: options[-1].rpartition("=")[2],
)
def test_base_and_run_say_what_they_say_alone(options: list[str], fit: Callable[..., Path]) -> None:
    run = fit(*options, "--trainer.max_steps=2", "--optimizer.lr=0.05", "--data.prompt=Instruction")
    speaker = speaker_of(run)
    systems = find_systems([str(run)], run.parent, with_base=True)
    assert speaker.names == [system.name for system in systems]
    texts: list[str] = []
    for system in [*systems, *systems]:
        stopped = speaker.say(system.name, speaker.header(ASKED), LONG, 1)
        next(stopped)
        stopped.close()  # leaves the weights as they were
        (alone,) = generate(
            system.load(torch.float32, CPU),
            [speaker.header(ASKED)],
            tokenizer=speaker.tokenizer,
            stops=stop_ids(speaker.prompt, speaker.tokenizer),
            max_new_tokens=24,
            batch_size=1,
        )
        said = whole(speaker, system.name)[-1]
        assert (said.text, said.stop_reason, said.new_tokens) == (
            alone.text,
            alone.stop_reason,
            alone.new_tokens,
        )
        texts.append(said.text)
    assert texts[0] != texts[1], "the run has learned something"


def test_prompts_are_those_of_training(fit: Callable[..., Path]) -> None:
    more = ["--data.prompt=CustomerAgent", '--data.prompt.prefix=["priority"]']
    run = fit(*more, "--trainer.max_steps=1")
    speaker = speaker_of(run)
    turns = (*ASKED, Message("assistant", "On its way."), Message("user", "URGENT, when?"))
    (row,) = encode([(*turns, Message("assistant", "Today."))], speaker.prompt, speaker.tokenizer)
    header = speaker.header(turns)
    assert header == row.input_ids[: len(header)].tolist()
    assert row.labels[len(header) - 1] == -100
    assert row.labels[len(header)] != -100
    assert "[PRIORITY: HIGH]" in speaker.tokenizer.decode(header)
    described = json.loads((run / "adapter" / "prompt.json").read_text())
    assert described["init_args"] == {"prefix": ["priority"]}


def test_virtual_tokens_take_room(fit: Callable[..., Path]) -> None:
    prompts = "--model.head=PromptTuning", "--model.head.num_virtual_tokens=5", MORE_ROOM
    assert speaker_of(fit(*prompts, "--trainer.max_steps=1")).room == 512 - 5


def test_a_run_that_has_not_finished_is_one_message(fit: Callable[..., Path]) -> None:
    run = fit("--trainer.max_steps=1")
    (run / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(UserError, match="has not finished"):
        speaker_of(run)


@pytest.fixture(scope="module")
def scripted(tiny_base: Path) -> Any:
    """A speaker whose model is a script."""
    from tuner.backbone import load_tokenizer
    from tuner.data.prompts.chat import Chat

    speaker = Speaker.__new__(Speaker)
    speaker.tokenizer, speaker.prompt = load_tokenizer(str(tiny_base)), Chat()
    speaker._stops = [2]
    speaker._models = {"lora": None}
    speaker._thread = module.ThreadPoolExecutor(1)
    return speaker


SCRIPTS = [
    "Zoë 你好, 世界 🎉🎉 👩‍👩‍👧 e\u0301nd",
    "  two  blanks\n\n    indented\ttab \n",
    "I 'm not . sure ! \ufffd",
    "�� a broken text �",
]


@pytest.mark.parametrize("text", SCRIPTS)
def test_no_half_characters_are_said(
    text: str, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = scripted.tokenizer(text, add_special_tokens=False)["input_ids"]

    def say(*_: Any, each_token: Any, **__: Any) -> list[Reply]:
        for token in [*tokens, 2]:
            each_token(torch.tensor([token]))
        return [Reply(scripted.tokenizer.decode(tokens).strip(), "eos", len(tokens) + 1, 1.0)]

    monkeypatch.setattr(module, "generate", say)
    saids = list(scripted.say("lora", [1], LONG, 1))
    *partial, last = saids
    assert last.text == text.strip()
    assert (last.stop_reason, last.new_tokens) == ("eos", len(tokens) + 1)
    assert [said.new_tokens for said in partial] == list(range(1, len(tokens) + 1))
    for one, following in pairwise(saids):
        assert following.text.startswith(one.text), "nothing is taken back"
        assert not one.text.endswith("\ufffd")
    assert len({said.text for said in partial}) > 3, "said as it comes"


def test_a_reply_nobody_waits_for_stops_at_the_next_token(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def endless(*_: Any, each_token: Any, **__: Any) -> list[Reply]:
        while True:
            each_token(torch.tensor([300]))
            told.append(1)
            time.sleep(0.001)

    monkeypatch.setattr(module, "generate", endless)
    saids = scripted.say("lora", [1], LONG, 1)
    assert next(saids).stop_reason == "stopped"
    saids.close()
    scripted._thread.submit(len, "").result(timeout=10)  # it is free again
    assert len(told) < 1000


def test_who_waits_for_others_can_give_up(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    may, begun = threading.Event(), list[list[int]]()

    def slow(_: Any, headers: list[list[int]], **__: Any) -> list[Reply]:
        begun.extend(headers)
        assert may.wait(10)
        return [Reply("x", "eos", 1, 1.0)]

    monkeypatch.setattr(module, "generate", slow)
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    first, second = (scripted.say("lora", [n], LONG, 1) for n in (1, 2))
    assert next(first) == next(second) == Said(), "nothing yet, but a chance to leave"
    second.close()
    may.set()
    assert [said for said in first if said.text][-1].text == "x"
    scripted._thread.submit(len, "").result(timeout=10)
    assert begun == [[1]], "what nobody waits for is not begun"


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), UserError, "/reset forgets"),
        (RuntimeError("other"), RuntimeError, "other"),
    ],
)
def test_what_goes_wrong_is_heard_of(
    error: Exception, raised: Any, message: str, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module, "generate", fail)
    with pytest.raises(raised, match=message):
        next(scripted.say("lora", [1], LONG, 1))


def test_drawn_replies_have_a_seed_each(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Sampling | None] = []

    def note(*_: Any, sampling: Sampling | None, **__: Any) -> list[Reply]:
        drawn.append(sampling)
        return [Reply("x", "eos", 1, 1.0)]

    monkeypatch.setattr(module, "generate", note)
    for settings, draw in ((Settings(), 1), (Settings(0.7, 0.9), 1), (Settings(0.7, 0.9), 2)):
        list(scripted.say("lora", [1], settings, draw))
    assert drawn[0] is None
    assert drawn[1]
    assert drawn[2]
    assert (drawn[1].temperature, drawn[1].top_p) == (0.7, 0.9)
    assert drawn[1].seeds != drawn[2].seeds
