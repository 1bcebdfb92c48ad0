"""The plots of a sweep: validation loss by what was tried, and against what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tuner.evaluation.palette import COLOURS, Plot
from tuner.evaluation.svg import FAINT, draw, short

Points = Sequence[tuple[float, Mapping[str, Any]]]

COSTS = {
    "training_seconds": "training time (s)",
    "trainable_params": "trained parameters",
    "peak_memory_mib": "peak memory (MiB)",
}
MOST_NAMES = 12  # settings whose names still fit into a plot
ALIKE = 1.02  # costs closer than this factor to each other are no trade-off
WIDE = 8  # values further apart than this factor are shown by their logarithm
FAR = 200  # likewise, for ticks at powers of ten alone


def draw_plots(results: Mapping[str, Any]) -> list[Plot]:
    """All plots that have something to show.

    Args:
        results: from `summarise`.
    """
    ranked = [one for one in results["settings"] if one["val_loss"]]
    chosen = results["chosen"]
    # The names of drawn settings say nothing, and settings near each other would cover theirs.
    drawn = results["definition"]["trials"] is not None
    named = chosen if drawn or len(ranked) > MOST_NAMES else [one["name"] for one in ranked]
    plot = partial(_plot, chosen=chosen, named=named)
    plots: list[Plot] = []
    for number, key in enumerate(results["definition"]["over"]):
        points = [
            (value, one) for one in ranked if (value := _number(one["values"][key])) is not None
        ]
        if len({value for value, _ in points}) > 2:
            plots.append(plot(points, f"Validation loss by {key}", key, f"value-{number}"))
    for key, label in COSTS.items():
        points = [(one["costs"][key], one) for one in ranked if one["costs"][key]]
        values = [value for value, _ in points]
        if len(points) > 1 and max(values) > ALIKE * min(values):
            title = f"Quality against {label.split(' (')[0]}"
            plots.append(plot(points, title, label, f"cost-{key}"))
    return plots


def _plot(
    points: Points,
    title: str,
    label: str,
    prefix: str,
    *,
    chosen: Sequence[str],
    named: Sequence[str],
) -> Plot:
    def paint(axes: Any) -> None:
        from matplotlib.ticker import EngFormatter, LogLocator

        for x, one in points:
            loss, best = one["val_loss"], one["name"] in chosen
            colour = COLOURS[1] if best else COLOURS[0]
            if loss["ci95"]:
                axes.plot([x, x], loss["ci95"], color=colour, linewidth=1)
            axes.plot(x, loss["mean"], "D" if best else "o", color=colour, markersize=6)
            if one["name"] in named:
                axes.annotate(
                    short(one["name"]),
                    (x, loss["mean"]),
                    xytext=(5, 4),
                    textcoords="offset points",
                    color=FAINT,
                    fontsize=8,
                )
        values = [x for x, _ in points]
        if min(values) > 0 and max(values) / min(values) >= WIDE:
            axes.set_xscale("log")
            between = (1, 2, 5) if max(values) / min(values) < FAR else (1,)
            axes.xaxis.set_major_locator(LogLocator(subs=between))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
        if min(values) >= 1000:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.margins(x=0.15)
        axes.set_xlabel(short(label))
        axes.set_ylabel("val_loss (nats a token)")
        axes.grid(axis="y")

    return Plot(
        title,
        draw(3.0, paint, f"{title}, a point for each setting", prefix),
        "Lower is better. Means over the seeds with their 95 % intervals; diamonds: chosen.",
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
