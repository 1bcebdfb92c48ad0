"""Formats of replies: what passes, what fails which check, and which rows are asked."""

import json
import math
from pathlib import Path

import pytest

from tests.evaluation.conftest import pair, pairs
from tuner.evaluation.metrics.docstring_format import GoogleDocstring
from tuner.evaluation.metrics.email_format import EmailFormat
from tuner.evaluation.metrics.formats import Format, JsonFormat

SAMPLES = Path(__file__).parents[3] / "data" / "samples"
DOCSTRING = """Divide a number.

The rest is dropped.

Args:
    number (int): The number
        to divide.
    *others: Others: any.
    fast, slow: How.

Returns:
    The quotient.

Raises:
    ValueError: If it is 0.

Example:
    >>> divide(3)
    1"""
EMAIL = """Subject: Our meeting

Dear Dr. Petrov,

Could we meet on Monday instead of Friday?

With kind regards,
Ada Lovelace
Section B"""


def replies(name: str) -> list[str]:
    lines = (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"][-1]["content"] for line in lines]


@pytest.mark.parametrize(
    ("metric", "name"), [(GoogleDocstring(), "docstrings"), (EmailFormat(), "formal_email")]
)
def test_shipped_replies_pass_and_those_of_other_tasks_do_not(metric: Format, name: str) -> None:
    assert all(all(metric.checks(text)) for text in replies(name))
    for other in {"docstrings", "formal_email", "faq", "headlines", "support"} - {name}:
        assert not any(all(metric.checks(text)) for text in replies(other))


@pytest.mark.parametrize(
    "text",
    [
        DOCSTRING,
        f'"""{DOCSTRING}\n"""',
        DOCSTRING.replace("\n", "\n    "),  # as it is indented in a function
        DOCSTRING.replace("    ", "  "),
        DOCSTRING.replace("Returns", "Yields"),
        "Say hello.\n\nReturns:\n    A greeting.",
        "Is it so?\n\nArgs:\n    x:\n        Text of its own.",
    ],
)
def test_docstrings_that_pass(text: str) -> None:
    assert GoogleDocstring().checks(text) == (True,) * 5


@pytest.mark.parametrize(
    ("old", "new", "failed"),
    [
        ("Divide a number.", "Divide a number", {1}),
        ("Divide a number.", "Divide " + "a" * 100 + ".", {1}),
        ("\n\nReturns:", "\nReturns:", {2}),
        ("Returns:", "Args:", {3, 5}),
        ("Args:\n    number (int): The number\n        to divide.\n    *others: Others: any.\n"
         "    fast, slow: How.\n\nReturns:\n    The quotient.",
         "Returns:\n    The quotient.\n\nArgs:\n    x: Any.", {3}),
        ("    The quotient.\n", "", {4}),
        ("    The quotient.", "The quotient.", {4}),
        ("number (int): The number", "the number to divide", {5}),
        ("number (int): The number", "number (int: The number", {5}),
        ("ValueError: If it is 0.", "If it is 0.", {5}),
        ("ValueError: If it is 0.", "ValueError:", {5}),
        ("The rest", "```python\nThe rest", {1, 2, 3, 4, 5}),
        ("Divide a number.", "def divide(number):", {1, 2, 3, 4, 5}),
        (DOCSTRING, "The function divides.", {2, 3, 4, 5}),
        (DOCSTRING, "", {1, 2, 3, 4, 5}),
        (DOCSTRING, "Args:", {1, 2, 4}),
        (DOCSTRING, "Divide.\n\nExample:\n    1", {3, 4, 5}),
    ],
)  # fmt: skip
def test_docstring_checks_fail_one_by_one(old: str, new: str, failed: set[int]) -> None:
    assert old in DOCSTRING
    checks = GoogleDocstring().checks(DOCSTRING.replace(old, new, 1))
    assert {number for number, passed in enumerate(checks, start=1) if not passed} == failed


@pytest.mark.parametrize(
    "text",
    [
        EMAIL,
        EMAIL.split("\n\n", 1)[1],
        EMAIL.replace("\n\n", "\n"),
        EMAIL.replace("\n", "\r\n"),
        EMAIL.replace("Dear Dr. Petrov,", "Hello Ann:"),
        EMAIL.replace("Dear Dr. Petrov,", "To whom it may concern,"),
        EMAIL.replace("With kind regards,", "Thank you very much,"),
        EMAIL.replace("With kind regards,", "Yours sincerely"),
    ],
)
def test_emails_that_pass(text: str) -> None:
    assert EmailFormat().checks(text) == (True,) * 4


@pytest.mark.parametrize(
    ("old", "new", "failed"),
    [
        ("Dear Dr. Petrov,\n\n", "", {1, 4}),
        ("Dear Dr. Petrov,", "Dear Dr. Petrov, could we meet?", {1, 4}),
        ("Dear Dr. Petrov,", "Here is your e-mail:", {1, 4}),
        ("With kind regards,\n", "", {2, 3, 4}),
        ("With kind regards,", "Regards to you and your whole family,", {2, 3, 4}),
        ("\nAda Lovelace\nSection B", "", {3}),
        ("Ada Lovelace", "[Your Name]", {3}),
        ("Ada Lovelace", "...", {3}),
        ("Ada Lovelace", "I hope that you will answer me very soon", {3}),
        ("Could we meet on Monday instead of Friday?", "", {4}),
        ("Section B", "line\n" * 9, {2, 3, 4}),
        (EMAIL, "", {1, 2, 3, 4}),
        (EMAIL, "Sure, let us meet on Monday then.", {1, 2, 3, 4}),
        (EMAIL, "Dear Ann,", {2, 3, 4}),
        (EMAIL, "Kind regards,\nAda", {1, 2, 3, 4}),
    ],
)
def test_email_checks_fail_one_by_one(old: str, new: str, failed: set[int]) -> None:
    assert old in EMAIL
    checks = EmailFormat().checks(EMAIL.replace(old, new, 1))
    assert {number for number, passed in enumerate(checks, start=1) if not passed} == failed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": [1, 2.5, null]}', True),
        (" []\n", True),
        ("[" + "1" * 10_000 + "]", True),
        ("5", False),
        ('"a"', False),
        ("null", False),
        ("", False),
        ("{'a': 1}", False),
        ('{"a": 1,}', False),
        ('```json\n{"a": 1}\n```', False),
        ('Here it is: {"a": 1}', False),
        ('{"a": 1} {"b": 2}', False),
        ("[NaN]", False),
        ("[-Infinity]", False),
        ("[" * 100_000 + "]" * 100_000, False),
    ],
)
def test_json(text: str, expected: bool) -> None:
    assert JsonFormat().checks(text) == (expected,)


def test_a_row_is_asked_for_what_it_expects() -> None:
    rows = [
        pair("[]", "", expects={"format": "json"}),
        pair("no", "[1]", expects={"format": "json"}),
        pair("[]", "[1]", expects={"format": "email"}),
        pair("[]", "[1]"),
    ]
    found = JsonFormat().score(rows)["json_format"].rows
    assert found[:2].tolist() == [1, 0]
    assert all(math.isnan(value) for value in found[2:])
    assert JsonFormat().applies(rows)
    assert EmailFormat().applies(rows)
    assert not GoogleDocstring().applies(rows)


def test_where_no_row_expects_anything_the_references_say_it() -> None:
    rows = pairs(["[]"] * 10, ["[1]"] * 9 + ["none"])
    found = JsonFormat().score(rows)["json_format"].rows
    assert found[:9].tolist() == [1] * 9
    assert math.isnan(found[9])
    assert JsonFormat().applies(rows)
    assert not JsonFormat().applies(rows[1:])
    assert not JsonFormat().applies([])
    assert not EmailFormat().applies(rows)


def test_what_else_a_row_expects_is_no_format() -> None:
    rows = [*pairs(["[]"] * 9, ["[1]"] * 9), pair("no", "no", expects={"decline": "yes"})]
    assert JsonFormat().applies(rows)


def test_the_value_is_the_share_of_checks_passed() -> None:
    reply = EMAIL.replace("Ada Lovelace\nSection B", "")
    found = EmailFormat().score([pair(reply, EMAIL, expects={"format": "email"})])["email_format"]
    assert found.rows.tolist() == [0.75]
