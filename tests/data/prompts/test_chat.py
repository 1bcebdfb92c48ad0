"""Chat templates: where the loss is, for TinyLlama's and others; what cannot work is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from tuner.data.encode import encode
from tuner.data.example import Message
from tuner.data.prompts.chat import Chat
from tuner.errors import UserError

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>"
    "\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "{% for m in messages %}{{ '[' + m.role + ']' + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
NO_END = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
ONLY_LAST = (  # earlier replies lose their first line once more turns follow
    "{% for m in messages %}{{ '<' + m.role + '>' + (m.content if loop.last or m.role == 'user' "
    "else m.content.split('\n')[-1]) + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
NO_HEADER = "{% for m in messages %}{{ '<' + m.role + '>' + m.content + eos_token }}{% endfor %}"

TURNS = [
    Message("system", "Be brief."),
    Message("user", "Who? 你好"),
    Message("assistant", "Me, 👩‍👩‍👧."),
    Message("user", "Sure?"),
    Message("assistant", "Yes.\n\n- quite"),
]
Build = Callable[..., Any]


def supervised(prompt: Chat, turns: list[Message], tokenizer: Any) -> list[str]:
    """Text of each unbroken run of labelled tokens."""
    labels = encode([turns], prompt, tokenizer)[0].labels.tolist()
    runs: list[list[int]] = []
    for place, label in enumerate(labels):
        if label >= 0:
            if place == 0 or labels[place - 1] < 0:
                runs.append([])
            runs[-1].append(label)
    return [tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize(
    ("template", "specials", "end"),
    [
        (CHATML, ["<|im_start|>", "<|im_end|>"], "<|im_end|>"),
        (LLAMA3, ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>"),
    ],
    ids=["chatml", "llama3"],
)
def test_other_templates(
    with_template: Build, template: str, specials: list[str], end: str
) -> None:
    tokenizer = with_template(template, specials, eos=end)
    prompt = Chat()
    prompt.check(tokenizer)
    assert supervised(prompt, TURNS, tokenizer) == [
        TURNS[2].content + end,
        TURNS[4].content + end,
    ]
    ids = encode([TURNS], prompt, tokenizer)[0].input_ids.tolist()
    # The template writes <s> or does not: the tokenizer adds none of its own.
    assert ids.count(tokenizer.bos_token_id) == template.count("bos_token")


def test_a_template_that_strips_supervises_what_it_writes(with_template: Build) -> None:
    stripping = "{% for m in messages %}{{ '<' + m.role + '>\n' + m.content | trim + eos_token }}"
    tokenizer = with_template(
        stripping + "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>\n' }}{% endif %}"
    )
    turns = [Message("user", " Hi "), Message("assistant", "\n  Hello. \n")]
    Chat().check(tokenizer)
    assert supervised(Chat(), turns, tokenizer) == ["Hello.</s>"]


def test_system_turn_is_put_in_front_only_where_there_is_none(tokenizer: Any) -> None:
    prompt = Chat(system="Own words.")
    for turns, said in ((TURNS, "Be brief."), (TURNS[1:], "Own words.")):
        text = prompt.render(turns, tokenizer).text
        assert text.startswith(f"<|system|>\n{said}</s>\n<|user|>\n")
        assert text.count("<|system|>") == 1
        assert prompt.header(turns[:2], tokenizer).startswith(f"<|system|>\n{said}")
    assert Chat().render(TURNS[1:], tokenizer).text.startswith("<|user|>\n")


def test_a_system_turn_of_control_tokens_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"data\.prompt\.system: .* is a control token"):
        Chat(system=f"Be brief.{tokenizer.eos_token}").check(tokenizer)


def test_supervise_all_labels_every_token(tokenizer: Any) -> None:
    row = encode([TURNS], Chat(supervise="all"), tokenizer)[0]
    assert row.labels.tolist() == row.input_ids.tolist()
    assert row.targets == len(row.input_ids) - 1


def test_a_tokenizer_without_template_is_refused(with_template: Build) -> None:
    with pytest.raises(UserError, match=r"model\.base.*no chat template.*chat_template\.jinja"):
        Chat().check(with_template(None))


def test_a_template_without_end_of_turn_is_refused(with_template: Build) -> None:
    with pytest.raises(UserError, match="no end-of-turn mark"):
        Chat().check(with_template(NO_END))


def test_a_template_without_generation_header_is_refused_or_labels_no_header(
    with_template: Build,
) -> None:
    """Without a header the model writes `<assistant>` itself, so it has to learn it."""
    tokenizer = with_template(NO_HEADER)
    turns = [Message("user", "Hi"), Message("assistant", "Hello.")]
    assert supervised(Chat(), turns, tokenizer) == ["<assistant>Hello.</s>"]


def test_a_template_that_refuses_a_role_is_named_with_its_reason(with_template: Build) -> None:
    tokenizer = with_template(NO_SYSTEM)
    Chat().check(tokenizer)
    assert supervised(Chat(), TURNS[1:3], tokenizer) == [TURNS[2].content + "</s>"]
    with pytest.raises(UserError, match=r"refuses .* of system, user.*no system turns"):
        Chat().render(TURNS, tokenizer)
    with pytest.raises(UserError, match="refuses") as error:
        Chat().render([TURNS[0], *TURNS[1:3] * 5000], tokenizer)
    assert len(str(error.value)) < 500


def test_a_template_that_rewrites_earlier_turns_is_refused(with_template: Build) -> None:
    tokenizer = with_template(ONLY_LAST)
    Chat().check(tokenizer)
    two = [Message("user", "a"), Message("assistant", "one\ntwo")]
    assert supervised(Chat(), two, tokenizer) == ["one\ntwo</s>"]
    with pytest.raises(UserError, match="renders a turn differently once more turns follow"):
        Chat().render(two * 2, tokenizer)


def test_a_template_that_does_not_compile_is_refused(with_template: Build) -> None:
    with pytest.raises(UserError, match="chat template"):
        Chat().check(with_template("{% for m in messages %}{{ m.role"))
