"""The summary of a comparison in plain text, at most 100 columns wide whatever is measured."""

from __future__ import annotations

import textwrap
import unicodedata
from typing import TYPE_CHECKING, Any

from tuner.evaluation.layout import span_of, value_of
from tuner.evaluation.tables import headline
from tuner.evaluation.view import build_view, clip
from tuner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuner.evaluation.predictions import Prediction

WIDTH = 100  # columns
_NAME = 24  # columns of a system's name
_LINES = 4  # of a text
_HALF = "\0"  # never in the text, as `visible` escapes it


def render_summary(results: Mapping[str, Any], predictions: Sequence[Prediction]) -> str:
    """Returns the verdicts, the systems with the metrics that fit, and the report's examples.

    Args:
        results: the content of results.json.
        predictions: the rows of predictions.jsonl.
    """
    view = build_view(results, predictions)
    test_set = results["test_set"]
    lines = [_cut(f"{view['title']} on {test_set['n']} examples of {test_set['source']}"), ""]
    for sentence in view["verdicts"]:
        first, *rest = _wrap(sentence.text, "  ")
        lines += [f"- {first[2:]}", *rest]
    lines += ["", *_systems(results)]
    left_out = len(results["metric_info"]) - len(headline(results))
    if left_out:
        lines += _wrap(f"{left_out} further metrics, slices and worst cases: see the report.", "")
    for number, example in enumerate(view["examples"], start=1):
        first = example["first"]
        lines += ["", _cut(f"Example {number} of {len(view['examples'])} (random): {first.id}")]
        lines += _quote("prompt", first.prompt) + _quote("reference", first.reference)
        for reply in example["replies"]:
            lines += _quote(reply.system, reply.prediction)
    return "\n".join(lines) + "\n"


def _systems(results: Mapping[str, Any]) -> list[str]:
    """A table with the interval of the primary metric and as many others as there is room for."""
    systems, keys = results["systems"], headline(results)
    columns = [
        ["system", *systems],
        ["trainable", *(f"{one['trainable_percent']:.3f} %" for one in systems.values())],
    ]
    primary = results["primary_metric"]
    for key in keys:
        columns.append([key, *(value_of(one["metrics"][key]) for one in systems.values())])
        if key == primary:
            spans = (one["ci95"][key] for one in systems.values())
            columns.append(["95 % interval", *map(span_of, spans)])
    ends = ["ended", *(f"{one['stops']['eos']:.0%}" for one in systems.values())]
    columns.insert(2 + 2 * bool(primary), ends)
    widths = [max(_columns(_cut(cell, _NAME)) for cell in column) + 2 for column in columns]
    shown = [column for n, column in enumerate(columns) if sum(widths[: n + 1]) - 2 <= WIDTH]
    return _align([*zip(*shown, strict=True)], left=1)


def _align(table: Sequence[Sequence[str]], left: int) -> list[str]:
    """Pads cells to columns; the first `left` columns are names, flush left."""
    cells = [[_cut(cell, _NAME) for cell in row] for row in table]
    widths = [max(map(_columns, column)) for column in zip(*cells, strict=True)]
    lines: list[str] = []
    for row in cells:
        padded = [
            cell + gap if index < left else gap + cell
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            for gap in [" " * (width - _columns(cell))]
        ]
        lines.append(_cut("  ".join(padded)).rstrip())
    return lines


def _quote(label: str, text: str) -> list[str]:
    lines = _wrap(clip(text, 1000) or "(empty)", "    ")
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], "    [...]"]
    return [_cut(f"  {label}"), *lines]


def _wrap(text: str, indent: str) -> list[str]:
    shown = " ".join(visible(text).split())
    # textwrap takes every character for one column: a mark stands in for a wide one's second half.
    marked = "".join(one + _HALF * (_columns(one) - 1) for one in shown)
    lines = textwrap.wrap(marked, WIDTH - 1, initial_indent=indent, subsequent_indent=indent)
    return [line.replace(_HALF, "") for line in lines]


def _cut(text: str, width: int = WIDTH) -> str:
    """Shows a text in one line of at most `width` columns."""
    # Each character takes a column at least, so what stands behind these is cut in any case.
    shown = visible(" ".join(text.split())[: width + 1])[: width + 1]
    if _columns(shown) <= width:
        return shown
    while _columns(shown) > width - 3:
        shown = shown[:-1]
    return shown + "..."


def _columns(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(one) in "WF") for one in text)
