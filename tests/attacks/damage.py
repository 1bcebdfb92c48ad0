"""What happens to files and settings: strategies for damaged bytes, trees and words."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

PATIENCE = 60  # seconds after which a case hangs

TEXTS = (
    *("", " ", "a", "~", ".", "..", "/", "-", "--", "=", "null", "true", "~nobody/x", "a b"),
    *("\x00", "\x1b[2J", "\ud800", "\u202e", "\u2028", "\U0001f600", "caf\u00e9", "{{", "}}"),
    *("${a}", "%s", "{0}", "<|user|>\n", "[[[", "1e999", "nan", "9" * 5000, "x" * 300, "a/" * 200),
    *(
        "../../etc/passwd",
        "/dev/full",
        "con",
        "0x10",
        "1_000",
        "\uff11",
        "-1",
        "1e-4",
        "@",
        "[a",
        "{",
    ),
)
NUMBERS = (
    *(0, -1, 1, 2, 3.5, -0.0, 1e-300, 1e308, float("nan"), float("inf"), float("-inf")),
    *(2**31, 2**63, 2**64, -(2**63), 10**400, 10**9),
)
CONSTANTS = (None, True, False)

odd_texts = st.sampled_from(TEXTS) | st.text(max_size=8)
leaves = odd_texts | st.sampled_from(NUMBERS) | st.sampled_from(CONSTANTS)
odd_values = st.one_of(
    leaves,
    st.lists(leaves, max_size=3),
    st.dictionaries(odd_texts, leaves, max_size=2),
    st.sampled_from(([[]], [{}], {"a": {"b": []}}, [None], [[[[[0]]]]])),
).map(deepcopy)  # what was put into one tree must not be in the next

PIECES = (
    *(b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\n", b"\t", b'"', b"'", b","),
    *(
        b";",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b": ",
        b"- ",
        b"\\",
        b"\\ud800",
        b"#",
        b"&a ",
        b"*a",
        b"!",
    ),
    *(b"!!python/object:os.system ", b"<<: ", b"? ", b"|", b">", b"---\n", b"%", b"NaN", b"-1"),
    *(
        b"1e999",
        b"null",
        b"9" * 5000,
        b"[" * 20000,
        b"\xe2\x80\xa8",
        b"PAR1",
        b"PK\x03\x04",
        b"\x1f\x8b",
    ),
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes, most: int = 4) -> bytes:
    """The bytes with bits flipped, pieces put in, taken out or repeated, or the end cut off."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, len(found)))
        action = draw(st.sampled_from(("flip", "insert", "delete", "cut", "repeat", "noise")))
        if action == "flip" and found:
            found[place % len(found)] ^= 1 << draw(st.integers(0, 7))
        elif action == "insert":
            found[place:place] = draw(st.sampled_from(PIECES))
        elif action == "delete":
            del found[place : place + draw(st.integers(1, 40))]
        elif action == "cut":
            del found[place:]
        elif action == "repeat":
            found[place:place] = found[place : place + draw(st.integers(1, 60))]
        elif action == "noise":
            found[place:place] = draw(st.binary(min_size=1, max_size=8))
    return bytes(found)


def flipped(content: bytes, bit: int) -> bytes:
    """The bytes with one bit changed, counted from the first of the first byte."""
    found = bytearray(content)
    found[bit // 8] ^= 1 << bit % 8
    return bytes(found)


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a tree of mappings and lists, but the whole."""
    children: list[tuple[Any, Any]] = []
    if isinstance(tree, Mapping):
        children = list(tree.items())
    elif isinstance(tree, list):
        children = list(enumerate(tree))
    return [path for k, v in children for path in ((*at, k), *places(v, (*at, k)))]


def parent_of(tree: Any, path: Sequence[Any]) -> Any:
    """What holds the last step of a path."""
    for step in path[:-1]:
        tree = tree[step]
    return tree


@st.composite
def changed(draw: st.DrawFn, tree: Any, most: int = 2) -> Any:
    """The tree with a value replaced, removed, doubled, or a key renamed or added."""
    found: Any = deepcopy(tree)
    for _ in range(draw(st.integers(1, most))):
        known = places(found)
        if not known or draw(st.integers(0, 19)) == 0:
            return draw(odd_values)
        path = draw(st.sampled_from(known))
        parent, last = parent_of(found, path), path[-1]
        action = draw(st.sampled_from(("replace", "replace", "remove", "rename", "add")))
        if action == "replace":
            parent[last] = draw(odd_values)
        elif action == "remove":
            del parent[last]
        elif isinstance(parent, list):
            parent.insert(last, deepcopy(parent[last]) if action == "add" else draw(odd_values))
        elif action == "rename":
            parent[draw(odd_texts)] = parent.pop(last)
        else:
            parent[draw(odd_texts)] = draw(odd_values)
    return found


@st.composite
def nudged(draw: st.DrawFn, tree: Any) -> Any:
    """The tree with one of its numbers or switches set to another one of the kind."""
    found: Any = deepcopy(tree)
    scalars = [
        path for path in places(found) if isinstance(parent_of(found, path)[path[-1]], int | float)
    ]
    if not scalars:
        return found
    path = draw(st.sampled_from(scalars))
    parent, last = parent_of(found, path), path[-1]
    value = parent[last]
    if isinstance(value, bool):
        parent[last] = not value
    else:
        others = (0, 1, 2, 3, 7, 0.5, -value, value * 2, value * 1000, value / 2, value * 1e-6, 1e9)
        parent[last] = draw(st.sampled_from(others))
    return found


@contextmanager
def no_hang() -> Generator[None]:
    """Fails what does not come back."""

    def stop(*_: object) -> None:
        raise AssertionError(f"nothing came back in {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attack(cases: int, strategy: st.SearchStrategy[Any], check: Callable[[Any], None]) -> int:
    """Give a check so many cases, the same each time; returns how many it was given."""
    tried = 0

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],  # a case can take a second: no smaller ones are sought
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(case: Any) -> None:
        nonlocal tried
        tried += 1
        with no_hang():
            check(case)

    each()
    return tried
