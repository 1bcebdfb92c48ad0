"""Reports of a comparison: Markdown and one HTML page.

A report is made from results.json and predictions.jsonl and from nothing else, so it can be made
again at any time. What models wrote is hostile input: it is shown, never obeyed by a terminal, a
Markdown renderer or a browser.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tuner.evaluation.layout import value_of
from tuner.evaluation.plots import draw_plots
from tuner.evaluation.view import build_view, clip, other_cases
from tuner.markdown import code, escape, fence
from tuner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tuner.evaluation.layout import Table
    from tuner.evaluation.predictions import Prediction

TEMPLATES = Path(__file__).parent


def render_markdown(results: Mapping[str, Any], predictions: Sequence[Prediction]) -> str:
    """Returns report.md, to be read in a terminal or a pull request."""
    environment = markdown_templates()
    environment.filters["fence"] = _fence
    return environment.get_template("report.md.j2").render(build_view(results, predictions))


def render_html(results: Mapping[str, Any], predictions: Sequence[Prediction]) -> str:
    """Returns report.html: one page without scripts, outside links or outside resources."""
    view = build_view(results, predictions)
    view |= {"plots": draw_plots(results, predictions), "others": other_cases(results, predictions)}
    return html_templates().get_template("report.html.j2").render(view)


def _fence(text: str) -> Markup:
    return fence(clip(text))


def _table(shown: Table) -> Markup:
    """A table as GitHub reads it."""
    marks = ("---" if column < shown.left else "--:" for column in range(len(shown.head)))
    rows = [[_cell(cell.text, cell.note) for cell in row] for row in shown.rows]
    lines = [[escape(name) for name in shown.head], list(marks), *rows]
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _cell(text: str, note: str) -> str:
    return f"{escape(text)} ({escape(note)})" if note else escape(text)


def _unless_markup(safe: Callable[[str], str]) -> Callable[[object], object]:
    """For all that a template prints; markup and numbers are left alone."""
    return lambda value: (
        safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value
    )


def markdown_templates(folder: Path = TEMPLATES) -> Environment:
    """Templates whose values are escaped for Markdown.

    Args:
        folder: of the templates; those of this room are found as well.
    """
    environment = _environment(_unless_markup(escape), folder, autoescape=False)
    environment.filters |= {"code": code, "table": _table}
    return environment


def html_templates(folder: Path = TEMPLATES) -> Environment:
    """Likewise for HTML."""
    return _environment(_unless_markup(visible), folder, autoescape=True)


def _environment(
    finalize: Callable[[object], object], folder: Path, *, autoescape: bool
) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=autoescape,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"value": value_of, "clip": clip}
    return environment
