"""The plots of a report; one that has nothing to show is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.evaluation.svg import FAINT, INK, draw, short
from tuner.evaluation.tables import headline
from tuner.evaluation.verdicts import ALPHA

if TYPE_CHECKING:
    from markupsafe import Markup

    from tuner.evaluation.predictions import Prediction

    Results = Mapping[str, Any]

# Okabe and Ito's palette, which colour-blind people can tell apart, without black and yellow.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BASE = "#8a8f94"
MARKS = "osD^vPX"
BINS = 24


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with what stands above and below it."""

    title: str
    svg: Markup
    note: str


def draw_plots(results: Results, predictions: Sequence[Prediction]) -> list[Plot]:
    """All plots that have something to show, in the order of the report.

    Args:
        results: the content of results.json.
        predictions: the rows of predictions.jsonl.
    """
    drawn = (
        primary_differences(results),
        metric_bars(results),
        all_differences(results),
        score_distribution(results, predictions),
        reply_lengths(results, predictions),
        loss_curves(results),
        waiting_times(results),
        quality_by_size(results),
    )
    return [plot for plot in drawn if plot is not None]


def primary_differences(results: Results) -> Plot | None:
    """Every pair's difference in the primary metric with its interval."""
    pairs = [one for one in results["comparisons"] if one["family"] == "primary"]
    if not pairs:
        return None

    def paint(axes: Any) -> None:
        axes.axvline(0, color=FAINT, linewidth=0.8)
        for place, one in enumerate(pairs):
            _interval(axes, one, place, COLOURS[0])
        axes.set_yticks(
            range(len(pairs)), [f"{short(o['b'])}\nminus {short(o['a'])}" for o in pairs]
        )
        axes.invert_yaxis()
        axes.grid(axis="x")

    primary = results["primary_metric"]
    title = f"Differences in {primary}"
    return Plot(
        title,
        draw(0.7 + 0.48 * len(pairs), paint, f"{title} with 95 % intervals", "differences"),
        f"95 % intervals. Filled: p below {ALPHA} after Holm. Right of the line: more.",
    )


def all_differences(results: Results) -> Plot | None:
    """The tuned systems' differences from the base in every metric."""
    found = [
        one
        for one in results["comparisons"]
        if one["a"] == results["base"]
        and not results["systems"][one["b"]]["baseline"]
        and all(abs(end) <= 1 for end in [one["delta"], *one["ci95"]])
    ]
    keys = list(dict.fromkeys(one["metric"] for one in found))
    names = list(dict.fromkeys(one["b"] for one in found))
    if len(keys) < 2:
        return None

    def paint(axes: Any) -> None:
        axes.axvline(0, color=FAINT, linewidth=0.8)
        for one in found:
            row, step = names.index(one["b"]), 0.7 / len(names)
            place = keys.index(one["metric"]) + (row - (len(names) - 1) / 2) * step
            _interval(axes, one, place, colour_of(one["b"], results), MARKS[row % len(MARKS)])
        axes.set_yticks(range(len(keys)), [short(key) for key in keys])
        axes.invert_yaxis()
        axes.grid(axis="x")
        _legend(axes, names, results, marks=True)

    title = f"Differences from {results['base']}, every metric"
    height = 1.0 + len(keys) * max(0.24, 0.11 * len(names))
    return Plot(
        title,
        draw(height, paint, f"{title}, with 95 % intervals", "metrics"),
        "Filled: p below 0.05 after Holm. Metrics whose interval leaves -1 to 1 are in the table.",
    )


def metric_bars(results: Results) -> Plot | None:
    """Values from 0 to 1 of the metrics that people look for, with intervals."""
    systems = results["systems"]
    keys = [
        key
        for key in headline(results)
        if results["metric_info"][key]["kind"] != "likelihood"
        and all(-1 <= (s["metrics"][key] or 0) <= 1 for s in systems.values())
    ]
    if not keys:
        return None

    def paint(axes: Any) -> None:
        width = 0.8 / len(systems)
        for row, (name, system) in enumerate(systems.items()):
            for column, key in enumerate(keys):
                value, ends = system["metrics"][key], system["ci95"][key]
                if value is None:
                    continue
                place = column + (row - (len(systems) - 1) / 2) * width
                axes.barh(place, value, width * 0.86, color=colour_of(name, results))
                if ends:
                    axes.plot(ends, [place, place], color=INK, linewidth=0.9)
        axes.set_yticks(range(len(keys)), [short(key) for key in keys])
        axes.invert_yaxis()
        axes.grid(axis="x")
        _legend(axes, list(systems), results)

    return Plot(
        "Metrics by system",
        draw(
            0.9 + len(keys) * max(0.3, 0.13 * len(systems)),
            paint,
            "Bars of the metrics of each system, with 95 % intervals",
            "bars",
        ),
        "95 % intervals.",
    )


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
        _legend(axes, list(curves), results, marks=True)

    return Plot(
        "Loss in training",
        draw(3.0, paint, "Training and validation loss of each run by optimiser step", "loss"),
        "Lines: training. Dashed with marks: validation.",
    )


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
        axes.set_yticks(range(len(rows)), [f"{short(name)}\n{form}" for name, form, _ in rows])
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


def quality_by_size(results: Results) -> Plot | None:
    """The primary metric over the number of trainable parameters."""
    primary, systems = results["primary_metric"], results["systems"]
    known = {n: s for n, s in systems.items() if s["metrics"].get(primary) is not None}
    trained = [name for name, one in known.items() if one["trainable_params"] > 0]
    if not trained:
        return None

    def paint(axes: Any) -> None:
        from matplotlib.ticker import EngFormatter

        for name, one in known.items():
            value, ends = one["metrics"][primary], one["ci95"][primary]
            if name not in trained:
                axes.axhline(value, color=colour_of(name, results), linewidth=1.2, linestyle=":")
                continue
            mark = MARKS[trained.index(name) % len(MARKS)]
            x = one["trainable_params"]
            if ends:
                axes.plot([x, x], ends, color=colour_of(name, results), linewidth=1)
            axes.plot(x, value, mark, color=colour_of(name, results))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.xaxis.set_minor_formatter("")
        sizes = [known[name]["trainable_params"] for name in trained]
        axes.set_xlim(min(sizes) / 4, max(sizes) * 4)
        axes.set_xlabel("trainable parameters")
        axes.set_ylabel(short(str(primary)))
        axes.grid(axis="y")
        _legend(axes, list(known), results, marks=trained)

    return Plot(
        "Quality against trainable parameters",
        draw(3.0, paint, f"{primary} of each system over its trainable parameters", "size"),
        "95 % intervals. Dotted: systems without training.",
    )


def colour_of(name: str, results: Results) -> str:
    """A system's colour, the same in all plots."""
    others = [one for one in results["systems"] if one != results["base"]]
    return COLOURS[others.index(name) % len(COLOURS)] if name in others else BASE


def _interval(
    axes: Any, one: Mapping[str, Any], place: float, colour: str, mark: str = "o"
) -> None:
    clear = one["p_holm"] is not None and one["p_holm"] < ALPHA
    look: dict[str, Any] = {"color": colour, "markersize": 6}
    axes.plot(one["ci95"], [place, place], color=colour, linewidth=1.6)
    axes.plot(one["delta"], place, mark, markerfacecolor=colour if clear else "#ffffff", **look)


def _legend(
    axes: Any, names: Sequence[str], results: Results, *, marks: bool | Sequence[str] = False
) -> None:
    """Puts the names above the axes, in their colours."""
    from matplotlib.lines import Line2D

    marked = [] if marks is False else list(names) if marks is True else list(marks)
    handles = [
        Line2D(
            [], [],
            color=colour_of(name, results),
            linewidth=1.5 if marks else 6,
            linestyle="-" if name in marked or not marks else ":",
            marker=MARKS[marked.index(name) % len(MARKS)] if name in marked else "",
            markersize=5,
        )
        for name in names
    ]  # fmt: skip
    longest = max((len(short(name)) for name in names), default=0)
    axes.legend(
        handles,
        [short(name) for name in names],
        loc="lower center",
        bbox_to_anchor=(0.45, 1.0),
        ncols=3 if longest < 12 else 2 if longest < 20 else 1,
        columnspacing=1.2,
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
