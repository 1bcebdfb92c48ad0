"""What is done to the rows between their source and the model: the group `data.curation`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tuner.data.annotate import Annotator
from tuner.errors import UserError


@dataclass(frozen=True)
class Curation:
    """What is done to the rows between their source and the model.

    Args:
        keywords: keep rows that hold one of these words in any turn.
        language: keep rows that look English (`en`), by their commonest words.
        charset: keep rows whose letters are Latin, nine in ten at least (`latin`).
        redact: put marks in place of e-mail addresses, phone and order numbers.
        annotate: note sentiment, priority or kind of the last question, to slice results by.
        overlong: rows over `max_length`: `drop` them, `trim` their oldest turns and the beginning
            of their question, or stop with an `error`. Replies are never cut.
        near_duplicates: rows whose prompts are nearly equal: `group` them, so that no split tears
            them apart, `drop` all but the first, or `keep` them as they are.
        max_rejected: share of malformed rows from which on the data is taken to be misread.
        max_leaks: share of test rows seen in training from which on the run stops.
        allow: checks that may fail: `leaks`.
    """

    keywords: tuple[str, ...] = ()
    language: Literal["en"] | None = None
    charset: Literal["latin"] | None = None
    redact: bool = False
    annotate: tuple[Annotator, ...] = ()
    overlong: Literal["drop", "trim", "error"] = "drop"
    near_duplicates: Literal["group", "drop", "keep"] = "group"
    max_rejected: float = 0.1
    max_leaks: float = 0.1
    allow: tuple[Literal["leaks"], ...] = ()

    def __post_init__(self) -> None:
        """Refuse shares that are none.

        Raises:
            UserError: a share below 0 or above 1.
        """
        for key in ("max_rejected", "max_leaks"):
            if not 0 <= getattr(self, key) <= 1:
                raise UserError(
                    f"data.curation.{key}: {getattr(self, key)} is not allowed; give 0 to 1"
                )
