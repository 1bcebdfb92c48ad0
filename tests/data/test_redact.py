"""What counts as personal data, and what does not."""

from __future__ import annotations

import pytest

from tuner.data.redact import redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to jo.b+x@mail.example.org.", "Write to [EMAIL]."),
        ("<jo@example.org>, ann_b@a-b.co.uk", "<[EMAIL]>, [EMAIL]"),
        ("Call +44 20 7946 0958 now", "Call [PHONE] now"),
        ("(555) 014-2233 or 555-014-2233", "[PHONE] or [PHONE]"),
        ("Ring 555-0142.", "Ring [PHONE]."),
        ("tel 02079460958", "tel [PHONE]"),
        ("My order number is AB-12345, thanks", "My order number is [ORDER], thanks"),
        ("order #123456", "order [ORDER]"),
        ("call 1-800-869-3557 or 1.877.350.0038", "call [PHONE] or [PHONE]"),
        ("it is 7703743799.", "it is [PHONE]."),
        ("my mobile: 07700 900123", "my mobile: [PHONE]"),
        ("order # 12345", "order [ORDER]"),
        ("confirmation number 123456", "confirmation number [ORDER]"),
        ("Ref: 99-X7712", "Ref: [ORDER]"),
        ("Card 4111 1111 1111 1111!", "Card [CARD]!"),
        ("4111111111111111", "[CARD]"),
    ],
)
def test_is_replaced(text: str, expected: str) -> None:
    assert redact(text)[0] == expected
    assert redact(text)[1].total() == expected.count("[")
    assert redact(expected) == (expected, {}), "a second pass finds nothing"


@pytest.mark.parametrize(
    "text",
    [
        "It costs 1,299.99 and weighs 250 g",
        "Founded in 1998, moved in 2004-05",
        "2024-11-21 at 10:30",
        "I order pizza every day",
        "My order arrived broken in 2023",
        "version 3.11.7 or 10.0.0.1",
        "New order is 30minutes late",
        "order 20mg, case 2019, 10 000 000 people",
        "192.168.100.200 and version 10.100.200",
        "@handle said hi; a @ b",
        "the account was closed",
        "3.14159265358979",
        "",
    ],
)
def test_is_left_alone(text: str) -> None:
    assert redact(text) == (text, {})


def test_counts_by_kind() -> None:
    _, counts = redact("a@b.org c@d.org, order 7712-99, 555-0142")
    assert counts == {"email": 2, "order": 1, "phone": 1}
