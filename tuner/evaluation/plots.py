"""The plots of a report; one that has nothing to show is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuner.evaluation.palette import COLOURS, MARKS, Plot, colour_of, legend
from tuner.evaluation.plots_rows import (
    loss_curves,
    reply_lengths,
    score_distribution,
    waiting_times,
)
from tuner.evaluation.svg import FAINT, INK, PAPER, draw, short
from tuner.evaluation.tables import headline
from tuner.evaluation.verdicts import ALPHA

if TYPE_CHECKING:
    from tuner.evaluation.predictions import Prediction

    Results = Mapping[str, Any]


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
        legend(axes, names, results, marks=True)

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
        legend(axes, list(systems), results)

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
        legend(axes, list(known), results, marks=trained)

    return Plot(
        "Quality against trainable parameters",
        draw(3.0, paint, f"{primary} of each system over its trainable parameters", "size"),
        "95 % intervals. Dotted: systems without training.",
    )


def _interval(
    axes: Any, one: Mapping[str, Any], place: float, colour: str, mark: str = "o"
) -> None:
    clear = one["p_holm"] is not None and one["p_holm"] < ALPHA
    look: dict[str, Any] = {"color": colour, "markersize": 6}
    axes.plot(one["ci95"], [place, place], color=colour, linewidth=1.6)
    axes.plot(one["delta"], place, mark, markerfacecolor=colour if clear else PAPER, **look)
