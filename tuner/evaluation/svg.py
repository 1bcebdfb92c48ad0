"""Figures as SVG that stands in a page: same bytes each time, page's own ink, names as text."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from tuner.visible import visible

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
# Replaced by the colours of the page: its text, and what lies behind it.
INK, FAINT, PAPER = "#0a0b0c", "#0d0e0f", "#0e0f10"
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tuner",
    "text.parse_math": False,  # a name may hold dollars
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.4,
}
_MOST = 26  # characters of a name


def draw(height: float, paint: Callable[[Any], None], label: str, prefix: str) -> Markup:
    """Draws one figure, as wide as a phone.

    Args:
        height: in inches; the width is 4.7.
        paint: draws on the axes it is given.
        label: what the figure shows, for those who do not see it.
        prefix: of the ids in the figure, unique in a page.

    Returns:
        The svg element.
    """
    from matplotlib.figure import Figure

    with _settings():
        figure = Figure(figsize=(4.7, height), layout="constrained")
        paint(figure.add_subplot())
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return Markup(_embedded(file.getvalue(), label, prefix))


def short(name: str) -> str:
    """A name as an axis or a legend shows it: one line, cut, nothing that XML cannot hold."""
    shown = " ".join(visible(name).split())
    shown = re.sub("[\ufffe\uffff]", "?", shown)
    shown = shown if len(shown) <= _MOST else f"{shown[: _MOST - 10]}…{shown[-9:]}"
    return f" {shown}" if shown.startswith("_") else shown  # matplotlib hides such labels


@contextmanager
def _settings() -> Generator[None]:
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)  # pyright: ignore[reportCallIssue, reportArgumentType]
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the browser has other fonts
        yield


def _embedded(drawn: bytes, label: str, prefix: str) -> str:
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    root = ElementTree.fromstring(drawn)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    wanted: dict[str, str] = {}

    def renamed(found: re.Match[str]) -> str:
        name = wanted.setdefault(found[1], f"{prefix}-{len(wanted)}")
        return found[0].replace(found[1], name)

    for one in root.iter():
        for key in ("style", "clip-path", "fill", "stroke"):
            if (value := one.get(key)) is not None:
                one.set(key, re.sub(r"url\(#([^)]+)\)", renamed, _inked(value)))
        if (reference := one.attrib.pop(_HREF, None)) is not None:
            one.set("href", re.sub("^#(.+)$", renamed, reference))
    for one in root.iter():
        name = one.attrib.pop("id", None)
        if name in wanted:
            one.set("id", wanted[name])
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", " ".join(visible(label).split()).translate({0xFFFE: "?", 0xFFFF: "?"}))
    return ElementTree.tostring(root, encoding="unicode")


def _inked(style: str) -> str:
    for colour, of in ((INK, "currentColor"), (FAINT, "currentColor"), (PAPER, "var(--page)")):
        style = style.replace(colour, of)
    # Only the size of a font is kept: the page brings its own.
    return re.sub(r"font: (?:\w+ )*?([\d.]+px)[^;]*", r"font-size: \1", style)
