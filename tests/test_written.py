"""What people write in YAML is told apart, with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuner.errors import UserError
from tuner.written import load, mapping, sequence, text


def test_what_fits_is_handed_on(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("\ufeffname: ' a '\nrows: [1, 2]\n", encoding="utf-8")
    found = mapping(load(file, "--x"), ("name", "rows"), "x")
    assert sequence(found["rows"], "x: rows") == [1, 2]
    assert text(found, "name", "x") == "a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: a\nname: b\n", r"--x: .*x\.yaml:2: no valid YAML: the key 'name' stands twice"),
        ("name: [a\n", r"--x: .*x\.yaml:2: no valid YAML"),
        ("- a\n", "x: must be a mapping of keys to values, not a list"),
        ("", "x: must be a mapping of keys to values, not empty"),
        ("1: a\n", "x: the key 1 must be text; put it in quotes"),
        ("nam: a\n", "x: unknown key 'nam'. Did you mean 'name'"),
        ("name: 3\n", r"x: name: must be text, not 3 \(int\); put it in quotes"),
        ("name: ' '\n", "x: name: is empty"),
        ("name: {}\n", "x: name: must be text, not a mapping"),
    ],
)
def test_what_does_not_fit_is_told(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(content)

    def read() -> Any:
        return text(mapping(load(file, "--x"), ("name",), "x"), "name", "x")

    with pytest.raises(UserError, match=message):
        read()
    with pytest.raises(UserError, match="x: rows: must be a list, not text"):
        sequence("a", "x: rows")
