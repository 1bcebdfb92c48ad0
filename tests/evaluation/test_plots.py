"""Plots: the same bytes each time, names as text, nothing drawn of nothing."""

from typing import Any
from xml.etree import ElementTree

from made import HOSTILE, hostile, made

from tuner.evaluation.plots import draw_plots
from tuner.evaluation.svg import draw, short


def test_plots_are_the_same_each_time_and_fit_a_phone() -> None:
    first, second = draw_plots(*hostile()), draw_plots(*hostile())
    assert [plot.svg for plot in first] == [plot.svg for plot in second]
    assert len(first) == 8
    for plot in first:
        root = ElementTree.fromstring(plot.svg)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert root.get("width") is None
        assert float(str(root.get("viewBox")).split()[2]) < 360
        assert "mathdefault" not in plot.svg


def test_names_are_text() -> None:
    def paint(axes: Any) -> None:
        axes.set_title(short("$x^2$ <b>&amp; \x00\ud800\ufffe"))
        axes.plot([0, 1], [0, 1], label=short("_hidden"))
        axes.legend()

    svg = draw(2, paint, HOSTILE, "p")
    texts = [one.text for one in ElementTree.fromstring(svg).iter() if one.tag.endswith("}text")]
    assert "$x^2$ <b>&amp; \\x00\\ud800?" in texts or any(
        str(one).startswith("$x^2$ <b>&a") for one in texts
    )
    assert "_hidden" in [str(one).strip() for one in texts]
    assert "<script" not in svg


def test_one_system_without_metrics_has_only_the_length_of_its_replies() -> None:
    results, rows = made({"lora": ["a", "b"]}, metrics=[], reference="")
    results["systems"]["lora"]["trainable_params"] = 0
    assert [plot.title for plot in draw_plots(results, rows)] == ["Length of replies"]
