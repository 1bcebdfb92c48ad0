"""Every shipped docstring describes the function it is about, and its example runs."""

from __future__ import annotations

import ast
import doctest
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tuner.evaluation.suite import load_suite

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
ROWS = [json.loads(line) for line in (SAMPLES / "docstrings.jsonl").read_text().splitlines()]
SUITE = [
    {"id": e.meta["item"], "messages": [m.as_dict() for m in e.messages]}
    for e in load_suite("docstrings").examples
]
HEADERS = ("Args", "Returns", "Yields", "Raises", "Example")
ENTRY = re.compile(r" {4}(\*{0,2}\w+): \S")


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below a function, but not those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            yield from own_nodes(child)


def find_function(sentence: str, tree: ast.Module) -> ast.FunctionDef:
    """Find the only function, or the method that the sentence names in backticks."""
    named = re.search(r"`(\w+)`", sentence)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    (found,) = [node for node in functions if not named or node.name == named[1]]
    return found


def read_sections(text: str) -> dict[str, list[str]]:
    """Split a docstring into its summary and its sections."""
    parts = re.split(rf"^({'|'.join(HEADERS)}):\n", text, flags=re.MULTILINE)
    assert len(set(parts[1::2])) == len(parts[1::2]), "a section occurs twice"
    return dict(zip(["", *parts[1::2]], (part.splitlines() for part in parts[::2]), strict=True))


def check(user: str, answer: str) -> None:
    """Check one docstring against the code in the user message."""
    message = re.fullmatch(r"(.+?)\n\n```python\n(.+)\n```", user, re.DOTALL)
    assert message, "the message has no code block"
    sentence, tree = message[1], ast.parse(message[2])
    function, sections = find_function(sentence, tree), read_sections(answer)
    assert sections[""][0].endswith("."), "the summary line has no period"
    arguments, nodes = function.args, list(own_nodes(function))
    names = [a.arg for a in arguments.posonlyargs + arguments.args if a.arg not in ("self", "cls")]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [a.arg for a in arguments.kwonlyargs]
    names += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    returned = [ast.unparse(n.value) for n in nodes if isinstance(n, ast.Return) and n.value]
    raised = {ast.unparse(n.exc).split("(")[0] for n in nodes if isinstance(n, ast.Raise) and n.exc}
    listed = {key: [m[1] for m in map(ENTRY.match, lines) if m] for key, lines in sections.items()}
    assert listed.get("Args", []) == names, "Args"
    assert ("Args" in sections) == bool(names), "Args"
    assert sorted(listed.get("Raises", [])) == sorted(raised), "Raises"
    yields = any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in nodes)
    returns = bool(set(returned) - {"None"}) and not yields
    assert ("Yields" in sections, "Returns" in sections) == (yields, returns), "Returns or Yields"
    scope: dict[str, Any] = {"__name__": "docstring_row"}
    exec(compile(tree, "<row>", "exec", dont_inherit=True), scope)
    test = doctest.DocTestParser().get_doctest(answer, scope, function.name, None, None)
    assert bool(test.examples) == ("Example" in sections), "Example"
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0, "the example fails"


@pytest.mark.parametrize("row", ROWS + SUITE, ids=[row["id"] for row in ROWS + SUITE])
def test_docstring_fits_its_function(row: dict[str, Any]) -> None:
    check(*(message["content"] for message in row["messages"]))


@pytest.mark.parametrize(
    ("old", "new"), [("    article:", "    item:"), ("ValueError:", "KeyError:"), ("3}", "4}")]
)
def test_a_wrong_docstring_is_found(old: str, new: str) -> None:
    (row,) = [row for row in ROWS if "class Warehouse" in row["messages"][0]["content"]]
    user, answer = (message["content"] for message in row["messages"])
    assert old in answer
    with pytest.raises(AssertionError):
        check(user, answer.replace(old, new))
