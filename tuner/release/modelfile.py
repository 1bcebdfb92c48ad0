"""A Modelfile of Ollama, with the rendering of a run as a Go template."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tuner.data.example import Message, Role
from tuner.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerBase

    from tuner.data.prompts import Prompt

MOST_CONTEXT = 4096  # tokens; more would take its memory on every machine
UNWRITABLE = ("{", "}", '"""')  # would end a piece of text in a Go template or a Modelfile


@dataclass(frozen=True)
class Pieces:
    """The text between the turns of a conversation.

    Attributes:
        opening: before the first turn, where no system turn comes first.
        before_system: before a system turn; null where there may be none.
        after_system: behind it.
        before_user: before a user's turn.
        before_reply: between a user's turn and the reply.
        after_reply: behind a reply.
        ask: between the last turn and the reply that is to be written.
    """

    opening: str
    before_system: str | None
    after_system: str
    before_user: str
    before_reply: str
    after_reply: str
    ask: str

    def write(self, messages: Sequence[Message]) -> str:
        """What Ollama makes of a conversation."""
        text = "" if messages[0].role == "system" else self.opening
        for turn in messages:
            if turn.role == "system":
                text += f"{self.before_system}{turn.content}{self.after_system}"
            elif turn.role == "user":
                text += self.before_user + turn.content
            else:
                text += self.before_reply + turn.content + self.after_reply
        return text + self.ask

    def template(self) -> str:
        """The same in Go's template language."""
        opening = f"{{{{ if not .System }}}}{self.opening}{{{{ end }}}}" if self.opening else ""
        system = ""
        if self.before_system is not None:
            system = (
                f'{{{{ if eq .Role "system" }}}}{self.before_system}{{{{ .Content }}}}'
                f"{self.after_system}{{{{ else }}}}"
            )
        return (
            f"{opening}{{{{ range .Messages }}}}{system}"
            f'{{{{ if eq .Role "user" }}}}{self.before_user}{{{{ .Content }}}}'
            f"{{{{ else }}}}{self.before_reply}{{{{ .Content }}}}{self.after_reply}{{{{ end }}}}"
            f"{'{{ end }}' if system else ''}{{{{ end }}}}{self.ask}"
        )


def find_pieces(
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Iterable[Sequence[Message]],
) -> Pieces | None:
    """The pieces of a rendering that writes turns one after the other.

    The beginning-of-text token is left out: Ollama puts it in front itself.

    Args:
        prompt: the rendering.
        tokenizer: of the model.
        conversations: what the pieces are tried on, each up to the turn that is to be answered.

    Returns:
        Null where pieces cannot write what the rendering writes.
    """
    bos = cast("str | None", tokenizer.bos_token) or ""
    alone = _between(prompt, tokenizer, "user")
    longer = _between(prompt, tokenizer, "user", "assistant", "user")
    guided = _between(prompt, tokenizer, "system", "user")
    if alone is None or longer is None:
        return None
    before = [alone[0], longer[2], *(guided[1:2] if guided else ())]
    # What they have in common at their ends, character by character.
    user = os.path.commonprefix([text[::-1] for text in before])[::-1]  # noqa: RUF071
    opening, after_reply, *after_system = (text.removesuffix(user) for text in before)
    pieces = Pieces(
        opening=opening.removeprefix(bos),
        before_system=guided[0].removeprefix(bos) if guided else None,
        after_system=after_system[0] if after_system else "",
        before_user=user,
        before_reply=longer[1],
        after_reply=after_reply,
        ask=alone[1],
    )
    for conversation in conversations:
        turns = [Message(turn.role, turn.content.strip()) for turn in conversation]
        if _regular(turns, system=guided is not None):
            text = prompt.header(turns, tokenizer).removeprefix(bos)
            if pieces.write(turns) != text:
                return None
    written = pieces.opening + pieces.write(_ALL)
    return None if any(mark in written for mark in UNWRITABLE) else pieces


_ALL = (Message("system", ""), Message("user", ""), Message("assistant", ""), Message("user", ""))


def _between(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, *roles: Role) -> list[str] | None:
    """The text before, between and behind turns of these roles; null where it cannot be told."""
    marks = [f"Turn{number}Turn" for number in range(len(roles))]
    turns = [Message(role, mark) for role, mark in zip(roles, marks, strict=True)]
    try:
        rest = prompt.header(turns, tokenizer)
    except UserError:
        return None
    found: list[str] = []
    for mark in marks:
        text, _, rest = rest.partition(mark)
        found.append(text)
    return [*found, rest]


def _regular(turns: Sequence[Message], *, system: bool) -> bool:
    """Whether user and assistant take turns behind at most one system turn."""
    roles = [turn.role for turn in turns]
    if roles[0] == "system":
        if not system:
            return False
        del roles[0]
    return all(role == ("user", "assistant")[place % 2] for place, role in enumerate(roles))


def modelfile(pieces: Pieces | None, stops: Sequence[str], context: int | None) -> str:
    """The content of the file that `ollama create` reads.

    Args:
        pieces: of the rendering; null where it has none.
        stops: texts that end a reply.
        context: positions that the base was made for; null where that is not known.
    """
    if pieces is None:
        template = "# The form of the prompts (prompt.json) cannot be written as a TEMPLATE.\n"
    else:
        template = f'TEMPLATE """{pieces.template()}"""\n'
    limit = f"PARAMETER num_ctx {min(context, MOST_CONTEXT)}\n" if context else ""
    ends = "".join(f'PARAMETER stop "{text}"\n' for text in stops)
    return (
        f"# ollama create NAME -f Modelfile\nFROM .\n{template}{ends}{limit}"
        "# As the run is evaluated: the likeliest token each time.\nPARAMETER temperature 0\n"
    )
