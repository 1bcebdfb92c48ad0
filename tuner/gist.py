"""What is wrong with a value, out of what the parser prints about all the types it tried."""

from __future__ import annotations

import re

MARKS = ("Does not validate against", "Subclass types expect", 'Parser key "')
# Lines around the reasons: what was tried and what was given, which types are no class at all.
FRAME = re.compile(
    r'(Parser key "|Does not validate against|Subtypes: |Errors:$|Given value|Subclass types expect'
    r"|a class path \(str\)|a dict with|Expected an? <class|Problem with given class_path).*"
)
# What parser and Python say of something that does not name a class, or not as one has to.
NO_CLASS = re.compile(
    r"Not a valid subclass of|Expected a dot import path|Unexpected import path format"
    r"|object has no attribute 'keys'|^argument of type|unhashable type|Expected a path but"
)
FORM = (
    "is no class with its settings; give its name, or a mapping of class_path (its name) and "
    "init_args (a mapping of its settings)"
)
GIVEN = re.compile(r"(?:Given|Got) value: (.*)$", re.MULTILINE)
MOST = 100  # characters of a value


def gist(message: str) -> str | None:
    """The most telling reason of a dump, in one line; null where the message is none.

    Args:
        message: what jsonargparse said: a reason for each type that a value could have had.
    """
    if not any(mark in message for mark in MARKS):
        return None
    lines = (line.strip().removeprefix("- ") for line in message.splitlines())
    reasons = [line for line in lines if line and not FRAME.fullmatch(line)]
    told = [reason for reason in reasons if not NO_CLASS.search(reason)]
    if told:
        return told[0]
    given = GIVEN.findall(message)
    return f"{short(given[-1]) if given else 'this'} {FORM}"


def short(value: str) -> str:
    """A value as people read it, its end cut off where it is long."""
    value = "null" if value == "None" else value
    return value if len(value) <= MOST else f"{value[:MOST]}..."
