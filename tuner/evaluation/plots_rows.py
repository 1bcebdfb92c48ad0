"""Plots of what lies behind the metrics: single rows, runs and waiting times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.evaluation.palette import MARKS, Plot, colour_of, legend
from tuner.evaluation.svg import FAINT, INK, draw, short

if TYPE_CHECKING:
    from tuner.evaluation.predictions import Prediction

    Results = Mapping[str, Any]

BINS = 24


def score_distribution(results: Results, predictions: Sequence[Prediction]) -> Plot | None:
    """How the rows' values of the primary metric are spread."""
    primary = results["primary_metric"]
    values = {
        name: [r.scores[primary] for r in predictions if r.system == name and primary in r.scores]
        for name in results["systems"]
    }
    return _ridges(f"{primary} of single replies", values, results, "scores", str(primary))


def reply_lengths(results: Results, predictions: Sequence[Prediction]) -> Plot | None:
    """How long the replies are, of the systems that generate any."""
    values = {
        name: [float(r.new_tokens) for r in predictions if r.system == name]
        for name in results["systems"]
    }
    values = {name: own for name, own in values.items() if any(own)}
    return _ridges("Length of replies", values, results, "lengths", "new tokens")


def loss_curves(results: Results) -> Plot | None:
    """Losses of all runs on one axis."""
    curves = {
        name: one
        for name, one in (results.get("curves") or {}).items()
        if one.get("train") or one.get("val")
    }
    values = [v for one in curves.values() for points in one.values() for _, v in points]
    if not values:
        return None

    def paint(axes: Any) -> None:
        for row, (name, one) in enumerate(curves.items()):
            look: dict[str, Any] = {"color": colour_of(name, results)}
            if one.get("train"):
                axes.plot(*zip(*one["train"], strict=True), linewidth=1.1, **look)
            if one.get("val"):
                mark = MARKS[row % len(MARKS)]
                axes.plot(*zip(*one["val"], strict=True), f"--{mark}", markersize=5, **look)
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("nats a token")
        axes.grid()
        legend(axes, list(curves), results, marks=True)

    return Plot(
        "Loss in training",
        draw(3.0, paint, "Training and validation loss of each run by optimiser step", "loss"),
        "Lines: training. Dashed with marks: validation.",
    )


def waiting_times(results: Results) -> Plot | None:
    """Median and slow replies to prompts that are answered alone."""
    rows = [
        (name, form, of)
        for name, system in results["systems"].items()
        for form, of in (system["latency"].get("alone") or {}).items()
    ]
    if not rows:
        return None

    def paint(axes: Any) -> None:
        for place, (name, _, of) in enumerate(rows):
            axes.barh(place, of["p50"], 0.5, color=colour_of(name, results))
            axes.plot([of["p50"], of["p95"]], [place, place], color=INK, linewidth=0.9)
            axes.plot(of["p95"], place, "|", color=INK)
            axes.plot(of["first_token_p50"], place, "o", color=INK, markersize=4)
        axes.set_yticks(
            range(len(rows)), [f"{short(name)}\n{short(form)}" for name, form, _ in rows]
        )
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        axes.set_xlim(left=0)
        axes.grid(axis="x")

    label = "Seconds a reply of each system, with the 95th percentile and the first token"
    return Plot(
        "Waiting time",
        draw(0.9 + 0.42 * len(rows), paint, label, "latency"),
        "Answered alone. Bars: median; lines: to the 95th percentile; dots: first token.",
    )


def _ridges(
    title: str, values: Mapping[str, Sequence[float]], results: Results, prefix: str, unit: str
) -> Plot | None:
    """A small histogram for each system over one axis."""
    values = {name: own for name, own in values.items() if own}
    if not values:
        return None
    everything = np.concatenate([np.asarray(own) for own in values.values()])
    low, high = float(everything.min()), float(everything.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)

    def paint(axes: Any) -> None:
        for place, (name, own) in enumerate(values.items()):
            counts, _ = np.histogram(own, edges)
            floor = len(values) - 1 - place
            heights = floor + 0.85 * counts / counts.max()
            colour = colour_of(name, results)
            axes.stairs(heights, edges, baseline=floor, fill=True, color=colour, alpha=0.75)
            middle = float(np.median(own))
            axes.plot([middle, middle], [floor, floor + 0.9], color=INK, linewidth=1.2)
            axes.axhline(floor, color=FAINT, linewidth=0.5)
        axes.set_yticks([len(values) - 0.7 - n for n in range(len(values))], map(short, values))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(short(unit))
        axes.spines["left"].set_visible(False)

    return Plot(
        title,
        draw(0.8 + 0.55 * len(values), paint, f"{title}: a histogram for each system", prefix),
        "Each histogram has a scale of its own. Black lines: medians.",
    )
