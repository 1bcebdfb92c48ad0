"""The template of a Modelfile, read as Go's text/template reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tuner.backbone import load_tokenizer
from tuner.data.example import Message
from tuner.data.prompts import Prompt
from tuner.data.prompts.chat import Chat
from tuner.data.prompts.customer_agent import CustomerAgent
from tuner.data.prompts.instruction import Instruction
from tuner.data.prompts.query_intent import QueryIntent
from tuner.release.modelfile import find_pieces, modelfile
from tuner.release.prompts import BUILT_IN

CHATML = """{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' + m.content + eos_token
 + '\\n' -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}"""
# The system turn stands inside the user's, as Llama 2 and Mistral have it.
FOLDED = """{{- bos_token -}}{%- for m in messages -%}{%- if m.role == 'system' -%}{{- '[INST] ' +
 m.content + '\\n\\n' -}}{%- elif m.role == 'user' -%}{%- if loop.first or
 messages[loop.index0 - 1].role == 'assistant' -%}{{- '[INST] ' -}}{%- endif -%}{{- m.content +
 ' [/INST]' -}}{%- else -%}{{- ' ' + m.content + eos_token -}}{%- endif -%}{%- endfor -%}"""
NO_SYSTEM = """{%- if messages[0].role == 'system' -%}{{- raise_exception('no system') -}}
{%- endif -%}{%- for m in messages -%}{{- m.role + ': ' + m.content + eos_token -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'assistant: ' -}}{%- endif -%}"""
NUMBERED = """{%- for m in messages -%}{{- m.role + (loop.index | string) + m.content + eos_token
 -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- 'assistant' -}}{%- endif -%}"""


def execute(template: str, messages: Sequence[Message]) -> str:
    """Runs the part of Go's template language that Modelfiles here use."""
    parts = iter(re.split(r"\{\{ (.*?) \}\}", template))
    tree = block([(kind % 2 == 1, part) for kind, part in enumerate(parts)])
    return written(tree, messages, Message("user", ""))


def block(tokens: list[tuple[bool, str]]) -> list[Any]:
    """Nested (action, body, else) lists out of a flat list, which is used up."""
    found: list[Any] = []
    while tokens:
        is_action, text = tokens.pop(0)
        if not is_action:
            found.append(text)
        elif text in ("end", "else"):
            found.append((text,))
            return found
        elif text.startswith(("if ", "range ")):
            body = block(tokens)
            other = block(tokens) if body.pop() == ("else",) else [("end",)]
            found.append((text, body, other[:-1]))
        else:
            found.append((text,))
    return found


def written(tree: list[Any], messages: Sequence[Message], turn: Message) -> str:
    text = ""
    for node in tree:
        match node:
            case str():
                text += node
            case (".Content",):
                text += turn.content
            case ("range .Messages", body, _):
                text += "".join(written(body, messages, one) for one in messages)
            case ("if not .System", body, _):
                if not any(one.role == "system" for one in messages):
                    text += written(body, messages, turn)
            case (condition, body, other):
                (role,) = re.fullmatch(r'if eq \.Role "(\w+)"', condition).groups()  # pyright: ignore
                text += written(body if turn.role == role else other, messages, turn)
    return text


@pytest.fixture
def tokenizer(tiny_base: Path) -> Any:
    return load_tokenizer(str(tiny_base))


PLAIN = [CustomerAgent(), Instruction(), QueryIntent()]


@pytest.mark.parametrize(
    ("prompt", "template"),
    [
        *((prompt, None) for prompt in [Chat(), Chat(system="Be brief."), *PLAIN]),
        *((Chat(), one) for one in (CHATML, FOLDED, NO_SYSTEM)),
    ],
)
def test_ollama_is_given_the_runs_own_prompts(
    prompt: Prompt, template: str | None, tokenizer: Any
) -> None:
    tokenizer.chat_template = template or tokenizer.chat_template
    pieces = find_pieces(prompt, tokenizer, BUILT_IN)
    assert pieces is not None
    text = modelfile(pieces, ["</s>"], 100_000)
    (found,) = re.findall(r'^TEMPLATE """(.*)"""$', text, re.DOTALL | re.MULTILINE)
    seen = 0
    for turns in BUILT_IN:
        if template == NO_SYSTEM and turns[0].role == "system":
            continue
        own = prompt.header(turns, tokenizer)
        # Ollama writes the token that begins a text.
        assert execute(found, turns) == own.removeprefix(tokenizer.bos_token), turns
        seen += 1
    assert seen >= 6
    assert 'PARAMETER stop "</s>"\n' in text
    assert "FROM .\n" in text
    assert "PARAMETER num_ctx 4096\n" in text


@pytest.mark.parametrize("prompt", [Chat(), CustomerAgent(prefix=["sentiment"])])
def test_what_is_not_written_turn_by_turn_has_no_template(prompt: Prompt, tokenizer: Any) -> None:
    tokenizer.chat_template = NUMBERED
    assert find_pieces(prompt, tokenizer, BUILT_IN) is None
    text = modelfile(None, ["</s>"], None)
    assert "\nTEMPLATE" not in text
    assert "cannot be written as a TEMPLATE" in text


@pytest.mark.parametrize("text", ["{{ .System }}", 'three """ quotes', "}"])
def test_text_that_go_would_execute_is_left_alone(text: str, tokenizer: Any) -> None:
    assert find_pieces(Chat(system=text), tokenizer, BUILT_IN) is None
