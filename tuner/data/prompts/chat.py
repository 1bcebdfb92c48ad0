"""The tokenizer's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

from tuner.data.example import Message
from tuner.data.prompts.base import PROBE, Prompt, Rendered, default_system, special_texts
from tuner.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Chat(Prompt):
    """Renders with the tokenizer's chat template; the loss is on the assistant's turns.

    A supervised range starts where the assistant's header ends and stops with the end-of-turn
    mark: white space that the template writes after that mark carries no loss. The ranges are
    found by rendering the conversation up to each reply with and without it, so no template needs
    `{% generation %}` marks; a template whose text changes with what follows is refused.

    Args:
        system: a system turn put in front of conversations that have none.
        supervise: `assistant` for the replies alone, `all` for the whole text (pretraining).
    """

    def __init__(
        self, system: str | None = None, supervise: Literal["assistant", "all"] = "assistant"
    ) -> None:
        self.system = system
        self.supervise = supervise

    def check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """See the base class."""
        if not tokenizer.chat_template:
            raise UserError(
                f"model.base: the tokenizer of '{tokenizer.name_or_path}' has no chat template; "
                "choose a chat model, or put a chat_template.jinja beside its tokenizer"
            )
        mark = next((m for m in special_texts(tokenizer) if m in (self.system or "")), None)
        if mark is not None:
            raise UserError(f"data.prompt.system: {mark!r} is a control token of the tokenizer")
        (start, end) = self._with_turns(PROBE, tokenizer)[1][-1]
        text = self.render(PROBE, tokenizer).text
        if text[start:end].strip() == PROBE[-1].content:
            raise UserError(
                f"model.base: the chat template of '{tokenizer.name_or_path}' writes no "
                "end-of-turn mark after a reply, so a model could not learn to stop"
            )
        if self.end_token(tokenizer) is None:
            raise UserError(
                f"model.base: the chat template of '{tokenizer.name_or_path}' ends a reply with "
                f"ordinary text ({text[start:end]!r}), which generation cannot tell from a reply's "
                "own words; let it write eos_token there, or make the mark a token of its own"
            )

    def render(self, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> Rendered:
        """See the base class."""
        text, spans = self._with_turns(messages, tokenizer)
        return Rendered(text, ((0, len(text)),) if self.supervise == "all" else spans)

    def header(self, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> str:
        """See the base class."""
        return self._template(self._with_system(messages), tokenizer, header=True)

    def template(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """See the base class."""
        own = tokenizer.get_chat_template()
        return own if self.system is None else default_system(self.system) + own

    def _with_turns(
        self, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase
    ) -> tuple[str, tuple[tuple[int, int], ...]]:
        turns = self._with_system(messages)
        text = self._template(turns, tokenizer, header=False)
        spans: list[tuple[int, int]] = []
        for place, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            before = self._template(turns[:place], tokenizer, header=True)
            last = place == len(turns) - 1
            through = text if last else self._template(turns[: place + 1], tokenizer, header=False)
            if not (text.startswith(before) and text.startswith(through.rstrip())):
                raise UserError(
                    f"model.base: the chat template of '{tokenizer.name_or_path}' begins a reply "
                    "otherwise than its generation header, or renders a turn differently once "
                    "more turns follow: the reply cannot be found in the text"
                )
            spans.append((len(before), len(through.rstrip())))
        return text, tuple(spans)

    def _with_system(self, messages: Sequence[Message]) -> list[Message]:
        own = self.system is not None and messages[0].role != "system"
        return [*([Message("system", self.system or "")] if own else []), *messages]

    def _template(
        self, turns: Sequence[Message], tokenizer: PreTrainedTokenizerBase, *, header: bool
    ) -> str:
        try:
            text = tokenizer.apply_chat_template(
                [turn.as_dict() for turn in turns], tokenize=False, add_generation_prompt=header
            )
        except Exception as error:  # templates raise what they like
            roles = ", ".join(turn.role for turn in turns[:6]) + (", ..." if turns[6:] else "")
            raise UserError(
                f"model.base: the chat template of '{tokenizer.name_or_path}' refuses a "
                f"conversation of {roles}: {error}"
            ) from error
        return cast("str", text)
