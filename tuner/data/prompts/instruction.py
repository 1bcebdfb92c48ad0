"""Instructions and responses under headings."""

from __future__ import annotations

from typing import ClassVar

from tuner.data.prompts.plain import PlainPrompt


class Instruction(PlainPrompt):
    """Renders `### Instruction:` and `### Response:` blocks, the headings of Alpaca.

    The layout is that of Stanford Alpaca (Taori et al. 2023); the sentence in front is not, and a
    system turn takes its place. The heading's line break belongs to the header: no tokenizer joins
    it to a word, while many join it to the colon.
    """

    reply_mark: ClassVar[str] = "### Response:\n"
    gap: ClassVar[str] = ""
    between: ClassVar[str] = "\n\n"
    preamble: ClassVar[str] = "Answer each instruction accurately and to the point."

    def user_turn(self, text: str) -> str:
        """See the base class."""
        return f"### Instruction:\n{text}"
