"""Plain words for what the config parser found."""

from __future__ import annotations

from typing import Any


def explain(message: str, parser: Any) -> str:
    return message
