"""Reports of a comparison: Markdown, one HTML page and a summary for the terminal.

A report is made from results.json and predictions.jsonl and from nothing else, so it can be made
again at any time. What models wrote is hostile input: it is shown, never obeyed by a terminal, a
Markdown renderer or a browser.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tuner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tuner.evaluation.predictions import Prediction

ALPHA = 0.05
NOTHING = "-"  # where a system has no value
EXAMPLES = 3
FEW = 20  # below this an interval says little
CAVEAT = (
    "Intervals cover the choice of test examples only. They say nothing about other training "
    "seeds: train again with other seeds to see how far results move."
)
_SHOWN = 1500  # characters of a text
_MARKDOWN = re.compile(r"([\\`*\[\]|~>]|(?<![^\W_])_|_(?![^\W_]))")  # _ inside a word is harmless


def render_markdown(results: Mapping[str, Any], predictions: Sequence[Prediction]) -> str:
    """Returns report.md, to be read in a terminal or a pull request."""
    environment = _environment(_escape_markdown, autoescape=False)
    environment.filters |= {"fence": _fence, "code": _code}
    return environment.get_template("report.md.j2").render(build_view(results, predictions))


def render_html(results: Mapping[str, Any], predictions: Sequence[Prediction]) -> str:
    """Returns report.html: one page without scripts, links or outside resources."""
    environment = _environment(_finalized, autoescape=True)
    return environment.get_template("report.html.j2").render(build_view(results, predictions))


def build_view(results: Mapping[str, Any], predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Selects and orders what a report shows; nothing is escaped or rounded yet.

    Args:
        results: the content of results.json.
        predictions: the rows of predictions.jsonl.

    Returns:
        `results` and, ready to be laid out: `title`, `metrics` (the primary one first), `verdicts`,
        `comparisons`, `tables` (a slice each), `examples` and `worst`.
    """
    base, primary, systems = results["base"], results["primary_metric"], results["systems"]
    rows = {(row.system, row.id): row for row in predictions}
    tuned = [system for system in systems if system != base]
    comparisons = [one | {"verdict": _verdict(one, results)} for one in results["comparisons"]]
    decisive = [one for one in comparisons if one["metric"] == primary]
    ids = sorted({row.id for row in predictions})
    drawn = random.Random(results["seed"]).sample(ids, min(EXAMPLES, len(ids)))
    return {
        "results": results,
        "title": ", ".join(tuned) + (f" against {base}" if tuned and base else "") or base,
        "metrics": sorted(results["metric_info"], key=lambda key: key != primary),
        "verdicts": [_sentence(one, results) for one in decisive],
        "comparisons": comparisons,
        "plot": _plot(decisive),
        "detectable": max((one["detectable"] for one in decisive), default=0.0),
        "tables": _tables(results),
        "few": FEW,
        "caveat": CAVEAT,
        "examples": [_example(name, list(systems), rows) for name in drawn],
        "worst": [
            one | _example(one["id"], [*filter(None, [base]), one["system"]], rows)
            for one in results["worst"]
            if one["metric"] == primary
        ],
    }


def _finalized(text: object) -> object:
    """What a template prints, with the invisible made visible; markup is left alone."""
    return visible(text) if isinstance(text, str) and not isinstance(text, Markup) else text


def clip(text: str, limit: int = _SHOWN) -> str:
    """Cuts out the middle of a text longer than `limit` characters and says how much is missing."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def _environment(finalize: Callable[[object], object], *, autoescape: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "value": value_of,
        "span": _span,
        "signed": "{:+.3f}".format,
        "p": "{:.4f}".format,
        "percent": "{:.1%}".format,
        "clip": clip,
    }
    return environment


def _escape_markdown(value: object) -> object:
    """Makes a text one line without meaning in Markdown; the template passes all it prints."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    one_line = " ".join(visible(str(value)).split())
    return _MARKDOWN.sub(r"\\\1", one_line).replace("<", "&lt;")


def _fence(text: str) -> Markup:
    """Puts a text into a code block."""
    shown = visible(clip(text))
    ticks = _ticks(shown, 3)
    return Markup(f"{ticks}text\n{shown}\n{ticks}")


def _code(value: object) -> Markup:
    """Puts a value into a code span."""
    shown = " ".join(visible(str(value)).split())
    ticks = _ticks(shown, 1)
    return Markup(f"{ticks} {shown} {ticks}" if "`" in shown else f"{ticks}{shown}{ticks}")


def _ticks(text: str, least: int) -> str:
    """Returns more backticks than any run of them in the text, so that the text cannot end it."""
    return "`" * max([least, *(len(run) + 1 for run in re.findall("`+", text))])


def value_of(value: float | None) -> str:
    """Returns three decimals, or a dash where there is no value."""
    return NOTHING if value is None else f"{value:.3f}"


def _span(ends: Sequence[float] | None) -> str:
    return NOTHING if ends is None else " to ".join(map(value_of, ends))


def _verdict(comparison: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    if comparison["p_holm"] >= ALPHA:
        return "no clear difference"
    up = results["metric_info"][comparison["metric"]]["higher_is_better"]
    if up is None:
        return "higher" if comparison["delta"] > 0 else "lower"
    return "better" if (comparison["delta"] > 0) == up else "worse"


def _sentence(one: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    a, b = (results["systems"][one[side]]["metrics"][one["metric"]] for side in "ab")
    low, high = one["ci95"]
    return (
        f"{one['b']} against {one['a']}: {one['verdict']}. {one['metric']} {a:.3f} to {b:.3f} "
        f"({one['delta']:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}, "
        f"p = {one['p_holm']:.4f} after Holm)."
    )


def _plot(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Places intervals, differences and zero on a line from 0 to 100."""
    ends = [end for one in comparisons for end in one["ci95"]] + [0.0]
    low, span = min(ends), (max(ends) - min(ends)) or 1.0

    def place(value: float) -> float:
        return round(5 + 90 * (value - low) / span, 2)

    rows = [
        {
            "low": place(one["ci95"][0]),
            "high": place(one["ci95"][1]),
            "x": place(one["delta"]),
            "of": one,
        }
        for one in comparisons
    ]
    return {"zero": place(0.0), "rows": rows}


def _tables(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Turns the rows per slice, value and system into one table per slice, one row per value."""
    cells = [
        {"slice": "category", "value": one["category"], **one} for one in results["categories"]
    ]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for one in [*cells, *results["slices"]]:
        table = found.setdefault(one["slice"], {})
        row = table.setdefault(one["value"], {"value": one["value"], "n": one["n"]})
        row[one["system"]] = one
    return {name: list(table.values()) for name, table in found.items()}


def _example(
    name: str, systems: Sequence[str], rows: Mapping[tuple[str, str], Prediction]
) -> dict[str, Any]:
    replies = [rows[system, name] for system in systems]
    return {"first": replies[0], "replies": replies}
