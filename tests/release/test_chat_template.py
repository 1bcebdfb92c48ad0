"""A rendering as a chat template: the same tokens, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from tuner.backbone import load_tokenizer
from tuner.data.encode import encode_header
from tuner.data.example import Message
from tuner.data.prompts import Prompt
from tuner.data.prompts.chat import Chat
from tuner.data.prompts.customer_agent import CustomerAgent
from tuner.data.prompts.instruction import Instruction
from tuner.data.prompts.query_intent import QueryIntent
from tuner.release.prompts import BUILT_IN
from tuner.release.template import chat_template

SPELT = Chat(system="Say \"hi\" {{ 1 }} {% x %} \\n\n\t'quoted' 東京 🙂")
PROMPTS = [Chat(), Chat(system="Be brief."), SPELT, CustomerAgent(), Instruction(), QueryIntent()]
OTHERS = [
    (Message("user", "  padded \n"),),
    (Message("user", "{{ bos_token }}{% raw %} <b> \\ \" ' & \u2028 \x07"),),
    (Message("user", "a"), Message("assistant", " b "), Message("user", "c")),
    (Message("system", " s "), Message("user", "u")),
]


@pytest.fixture(params=["plain", "with_bos"])
def tokenizer(request: pytest.FixtureRequest, tiny_base: Path) -> Any:
    found: Any = load_tokenizer(str(tiny_base))
    if request.param == "with_bos":  # as Llama's: the tokenizer writes the token, no template does
        found.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", found.bos_token_id)]
        )
        assert found("x")["input_ids"][0] == found.bos_token_id
    return found


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda one: type(one).__name__)
def test_a_template_writes_the_same_tokens(prompt: Prompt, tokenizer: Any, tmp_path: Path) -> None:
    template = chat_template(prompt, tokenizer, BUILT_IN)
    assert template is not None
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    expected = [encode_header(turns, prompt, tokenizer) for turns in [*BUILT_IN, *OTHERS]]
    again: Any = load_tokenizer(str(tmp_path))
    for turns, ids in zip([*BUILT_IN, *OTHERS], expected, strict=True):
        found = again.apply_chat_template([t.as_dict() for t in turns], add_generation_prompt=True)
        assert found["input_ids"] == ids, turns
        whole = [*turns, Message("assistant", "Done.")]
        text = again.apply_chat_template([t.as_dict() for t in whole], tokenize=False)
        assert text == prompt.render(whole, tokenizer).text


class _Shouting(QueryIntent):
    """Looks at what a turn says, and does not say that no template can."""

    def user_turn(self, text: str) -> str:
        return f"Query{'!' if 'urgent' in text else ''}: {text}"


@pytest.mark.parametrize("prompt", [CustomerAgent(prefix=["priority"]), _Shouting()])
def test_what_depends_on_the_words_has_no_template(prompt: Prompt, tokenizer: Any) -> None:
    assert chat_template(prompt, tokenizer, BUILT_IN) is None


def test_an_own_class_without_a_template_has_none(tokenizer: Any) -> None:
    class _Own(Chat):
        template = Prompt.template

    assert chat_template(_Own(), tokenizer, BUILT_IN) is None
