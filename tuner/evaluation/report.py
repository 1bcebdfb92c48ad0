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
from tuner.evaluation.markdown import code, escape, fence, table
from tuner.evaluation.plots import draw_plots
from tuner.evaluation.view import build_view, clip, other_cases
from tuner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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


def _finalized(text: object) -> object:
    """What a template prints, with the invisible made visible; markup is left alone."""
    return visible(text) if isinstance(text, str) and not isinstance(text, Markup) else text


def markdown_templates(folder: Path = TEMPLATES) -> Environment:
    """Templates whose values are escaped for Markdown.

    Args:
        folder: of the templates; those of this room are found as well.
    """
    environment = _environment(escape, folder, autoescape=False)
    environment.filters |= {"code": code, "table": table}
    return environment


def html_templates(folder: Path = TEMPLATES) -> Environment:
    """Likewise for HTML."""
    return _environment(_finalized, folder, autoescape=True)


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
