"""Tables of what the long attacks of the test suite found; `tables.py` places them."""

from __future__ import annotations

import json

from cost_tables import RESULTS, markdown


def section(name: str) -> str:
    """The attacks of one section of the page, each with what was counted."""
    files = sorted((RESULTS / "reliability").glob("*.json"))
    attacks = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    rows = [
        (
            one["attack"],
            f"{one['tried']:,}",
            "; ".join(f"{key.replace('_', ' ')}: {_shown(v)}" for key, v in one["found"].items()),
            f"`{one['test']}`",
            one["commit"][:7],
        )
        for one in attacks
        if one["section"] == name
    ]
    if not rows:
        return "Not run yet: `make soak`."
    return "\n".join(markdown(("attack", "tried", "found", "test", "commit"), rows, left=1))


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"
