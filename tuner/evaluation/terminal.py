"""The summary of a comparison in plain text, at most 100 columns wide."""

from __future__ import annotations

import textwrap
import unicodedata
from typing import TYPE_CHECKING, Any

from tuner.evaluation.report import CAVEAT, build_view, clip, value_of
from tuner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuner.evaluation.predictions import Prediction

WIDTH = 100  # columns
_NAME = 24  # columns of a system's name
_LINES = 4  # of a text
_HALF = "\0"  # never in the text, as `visible` escapes it


def render_summary(results: Mapping[str, Any], predictions: Sequence[Prediction]) -> str:
    """Returns the systems, their differences, the verdicts and the report's examples as plain text.

    Args:
        results: the content of results.json.
        predictions: the rows of predictions.jsonl.
    """
    view = build_view(results, predictions)
    test_set = results["test_set"]
    lines = [_cut(f"{view['title']} on {test_set['n']} examples of {test_set['source']}"), ""]
    lines += _systems(results, view["metrics"])
    if view["comparisons"]:
        lines += ["", *_differences(view["comparisons"]), ""]
        lines += [line for sentence in view["verdicts"] for line in _wrap(sentence, "")]
        lines += _wrap(CAVEAT, "")
    for number, example in enumerate(view["examples"], start=1):
        first = example["first"]
        lines += ["", _cut(f"Example {number} of {len(view['examples'])} (random): {first.id}")]
        lines += _quote("prompt", first.prompt) + _quote("reference", first.reference)
        for reply in example["replies"]:
            lines += _quote(reply.system, reply.prediction)
    return "\n".join(lines) + "\n"


def _systems(results: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    table = [["system", "trainable", "ended", "s/example", *metrics]]
    for name, system in results["systems"].items():
        table.append(
            [
                name,
                f"{system['trainable_percent']:.3f} %",
                f"{system['stops']['eos']:.0%}",
                f"{system['latency']['seconds_per_example']:.3f}",
                *(value_of(system["metrics"][key]) for key in metrics),
            ]
        )
    return _align(table, left=1)


def _differences(comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    table = [["system", "against", "metric", "difference", "95 % interval", "p (Holm)", "verdict"]]
    for one in comparisons:
        low, high = one["ci95"]
        table.append(
            [
                one["b"],
                one["a"],
                one["metric"],
                f"{one['delta']:+.3f}",
                f"{low:+.3f} to {high:+.3f}",
                f"{one['p_holm']:.4f}",
                one["verdict"],
            ]
        )
    return _align(table, left=3)


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
    shown = visible(text.replace("\n", " "))
    if _columns(shown) <= width:
        return shown
    while _columns(shown) > width - 3:
        shown = shown[:-1]
    return shown + "..."


def _columns(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(one) in "WF") for one in text)
