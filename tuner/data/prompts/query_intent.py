"""A query and its intent."""

from __future__ import annotations

from typing import ClassVar

from tuner.data.prompts.plain import PlainPrompt


class QueryIntent(PlainPrompt):
    """Renders `Query: ...` and `Intent: ...` on a line each, to train a classifier that writes."""

    reply_mark: ClassVar[str] = "Intent:"

    def user_turn(self, text: str) -> str:
        """See the base class."""
        return f"Query: {text}"
