"""How the replies of a chat are drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any

from tuner.data.example import digest
from tuner.errors import UserError, nearest
from tuner.generate import Sampling

MOST_TOKENS = 2**31 - 1  # more than any model can


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that `/params` shows and sets; the defaults are those of `eval.py`.

    Attributes:
        temperature: 0 for the likeliest token at each place.
        top_p: probability of the tokens that are drawn from, above 0, at most 1.
        max_new_tokens: tokens a reply at most.
        seed: of the draws; those of a chat differ from each other.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 12345

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            UserError: a value is not allowed.
        """
        ranges = {"temperature": (0, inf), "max_new_tokens": (1, MOST_TOKENS), "seed": (0, inf)}
        for name, (low, most) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= most or value == inf:  # NaN is not within either
                upper = f", up to {most}" if most < inf else ""
                raise UserError(f"{name}: {value} is not allowed; give {low} or more{upper}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p: {self.top_p} is not allowed; give more than 0, up to 1")

    def sampling(self, draw: int) -> Sampling | None:
        """How a reply is drawn; null where it is not.

        Args:
            draw: number of the question, so that the same one is answered anew when it is repeated.
        """
        if self.temperature == 0:
            return None
        seed = int(digest([self.seed, draw]), 16)
        return Sampling(self.temperature, self.top_p, [seed])

    def changed(self, words: str) -> Settings:
        """The settings with some of them set to other values.

        Args:
            words: names and values, such as `temperature 0.7 top_p=0.9`.

        Raises:
            UserError: a name is unknown, or a value is not allowed.
        """
        parts = words.replace("=", " ").split()
        known, values = asdict(self), dict[str, Any]()
        for name, value in zip(parts[::2], [*parts[1::2], ""], strict=False):
            if name not in known:
                raise UserError(f"unknown setting '{name}'. {nearest(name, known)}")
            try:
                values[name] = type(known[name])(value)
            except ValueError as error:
                kind = "a whole number" if type(known[name]) is int else "a number"
                raise UserError(f"{name}: '{value}' is not allowed; give {kind}") from error
        return replace(self, **values)

    def __str__(self) -> str:
        """One line for a person, in the form that `changed` reads."""
        return "  ".join(f"{name}={value}" for name, value in asdict(self).items())
