"""What the renderings in plain words have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from string import Template
from typing import TYPE_CHECKING, ClassVar, cast

from tuner.data.example import Message
from tuner.data.prompts.base import Prompt, Rendered, default_system, quoted
from tuner.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTENT = "\0"  # stands for a text
TEMPLATE = Template("""\
$opening
{%- for message in messages -%}
    {%- set content = message['content'] | trim -%}
    {%- if not loop.first -%}{{- $between -}}{%- endif -%}
    {%- if message['role'] == 'assistant' -%}
        {{- $reply + content + eos_token -}}
    {%- elif message['role'] == 'user' -%}
        {{- $before + content + $after -}}
    {%- else -%}
        {{- content -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- $header -}}{%- endif -%}
""")


class PlainPrompt(Prompt):
    """Marks turns with words instead of a chat template, for bases that have none.

    A reply, and only a reply, ends with the text of the tokenizer's eos token, which carries loss
    like the reply itself. A system turn stands first, without a mark. A tokenizer that starts its
    texts with a bos token gets the text of that token once, in front.

    White space around a turn's content is left out, since the rendering writes the separators:
    what follows the header can then not grow together with it into one token. A mark inside a
    turn's content ("Agent response:" in a customer's message) stays what it is, text without loss;
    the model may still be misled by it, as by any other words of its reader.
    """

    reply_mark: ClassVar[str]
    """What the header ends with."""

    gap: ClassVar[str] = " "
    """White space between `reply_mark` and the reply. It belongs to the reply, because
    tokenizers join a blank to the word that follows it."""

    between: ClassVar[str] = "\n"
    """What separates turns."""

    preamble: ClassVar[str] = ""
    """Stands in the place of a system turn where there is none."""

    @abstractmethod
    def user_turn(self, text: str) -> str:
        """The user's words with their mark."""

    def check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """See the base class."""
        if not tokenizer.eos_token:
            raise UserError(
                f"model.base: the tokenizer of '{tokenizer.name_or_path}' has no eos_token, with "
                f"which {type(self).__name__} ends a reply; name one in its tokenizer_config.json"
            )

    def render(self, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> Rendered:
        """See the base class."""
        turns = list(messages)
        if self.preamble and not any(turn.role == "system" for turn in turns[:1]):
            turns.insert(0, Message("system", self.preamble))
        text = _bos(tokenizer)
        spans: list[tuple[int, int]] = []
        for place, turn in enumerate(turns):
            text += self.between if place else ""
            content = turn.content.strip()
            if turn.role == "assistant":
                text += self.reply_mark
                start = len(text)
                text += self.gap + content + cast("str", tokenizer.eos_token)
                spans.append((start, len(text)))
            else:
                text += self.user_turn(content) if turn.role == "user" else content
        return Rendered(text, tuple(spans))

    def header(self, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> str:
        """See the base class."""
        return self.render(messages, tokenizer).text + self.between + self.reply_mark

    def template(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """See the base class; of a class whose `user_turn` puts the same around every text."""
        before, _, after = self.user_turn(CONTENT).partition(CONTENT)
        bos = "{{- bos_token -}}" if _bos(tokenizer) else ""
        return TEMPLATE.substitute(
            opening=(default_system(self.preamble) if self.preamble else "") + bos,
            between=quoted(self.between),
            reply=quoted(self.reply_mark + self.gap),
            before=quoted(before),
            after=quoted(after),
            header=quoted(self.between + self.reply_mark),
        )


def _bos(tokenizer: PreTrainedTokenizerBase) -> str:
    """The bos token's text where the tokenizer puts that token in front by itself, else nothing."""
    bos = cast("str | None", tokenizer.bos_token)
    starts = bos and tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]
    return bos if bos and starts else ""
