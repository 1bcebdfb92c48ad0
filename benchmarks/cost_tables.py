"""Tables of what things cost (start, data, evaluation, growth); `tables.py` puts them in docs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from math import log
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
WORK = ("scores", "statistics", "files and reports")  # of a comparison, beyond the models


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def where(result: dict[str, Any]) -> str:
    machine = result["hardware"]
    cores = machine["cpus"]
    return ", ".join(machine["gpus"]) or f"{cores} CPU core{'s' if cores > 1 else ''}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    rule = ["---"] * left + ["--:"] * (len(head) - left)
    return [f"| {' | '.join(line)} |" for line in (head, rule, *rows)]


def spread(values: Iterable[float], form: str = ",.2f") -> str:
    return ", ".join(format(value, form) for value in sorted(values))


def startup() -> str:
    """Seconds until a command answers, beside the imports that it cannot do without."""
    result = read("startup")
    peer = median(next(iter(result["seconds"].values())))
    rows = [
        (
            f"`{command}`",
            f"{median(times):.2f} s",
            f"{median(times) / peer:.2f}, {median(times) - peer:+.1f} s",
            spread(times),
        )
        for command, times in result["seconds"].items()
    ]
    return "\n".join(
        markdown((f"process ({where(result)})", "median", "of the imports", "all"), rows)
    )


def data() -> str:
    """Time and memory of preparing data."""
    head = ("rows", "tokens", "first start", "second start", "peak memory (imports)", "a worker")
    rows = [
        (
            f"{one['rows']:,}",
            f"{one['tokens']:,}",
            f"{one['seconds']:,.0f} s",
            f"{one['second_start_seconds']:.1f} s",
            f"{one['peak_mib']:,} MiB ({one['imports_mib']:,})",
            f"{one['worker_peak_mib']:,} MiB",
        )
        for one in read("data")["prepare"]
    ]
    return "\n".join(markdown(head, rows, left=0))


def tokenisation() -> str:
    """Rows a second of preparing data and of the bare tokenizer."""
    result = read("tokenisation")
    rows: list[Sequence[str]] = []
    for name, one in result["sets"].items():
        rates = one["rows_a_second"]
        some = one["processes"]
        for what, own, peer, processes in (
            ("tokens and loss mask", "with_mask", "bare", 1),
            ("the whole preparation", "whole", "bare_all", some),
        ):
            rows.append(
                (
                    f"{name}: {one['rows']:,} rows, {one['tokens'] / one['rows']:.0f} tokens each",
                    what,
                    str(processes),
                    f"{median(rates[own]):,.0f} ({spread(rates[own], ',.0f')})",
                    f"{median(rates[peer]):,.0f} ({spread(rates[peer], ',.0f')})",
                    f"{median(rates[own]) / median(rates[peer]):.2f}",
                )
            )
    head = (f"rows ({where(result)})", "what", "processes", "rows/s (all)", "bare tokenizer")
    return "\n".join(markdown((*head, "ratio"), rows, left=2))


def evaluation() -> str:
    """Seconds of the parts of a comparison beyond the models."""
    result = read("evaluation")
    turns = result["turns"]
    one = turns[0]
    parts = {name: [turn["parts"][name] for turn in turns] for name in one["parts"]}
    work = [sum(turn["parts"][name] for name in WORK) for turn in turns]
    shown = {name: parts[name] for name in WORK} | {"**the three together**": work}
    shown |= {name: times for name, times in parts.items() if name not in WORK}
    shown["whole process"] = [turn["seconds"] for turn in turns]
    shown["whole process, time of all processors"] = [turn["cpu_seconds"] for turn in turns]
    size = f"{one['rows']:,} rows, {one['systems']} systems, {where(result)}"
    rows = [(name, f"{median(times):.1f} s", spread(times)) for name, times in shown.items()]
    said = (
        f"{one['metrics']} metrics, {one['comparisons']} comparisons, {one['slices']} slices and "
        f"categories, {one['resamples']:,} resamples each."
    )
    return "\n".join([*markdown((size, "median", "all"), rows), "", said])


def growth() -> str:
    """Seconds and memory at three sizes each, and the power of the size that they grow with."""
    result = read("growth")
    return "\n".join(
        [*_fits(result), "", *_memory(result), "", *_comparisons(result)]  # one below the other
    )


def _power(small: float, large: float, times: float) -> str:
    return f"{log(large / small) / log(times):.2f}"


def _fits(result: dict[str, Any]) -> list[str]:
    sizes = list(zip(*result["fit"], strict=True))
    tokens = [size[0]["tokens_seen"] for size in sizes]
    seconds = [[turn["training_seconds"] for turn in size] for size in sizes]
    processors = [[turn["cpu_seconds"] for turn in size] for size in sizes]
    rows = [
        (
            f"{n:,}",
            f"{median(all_):.1f} s ({spread(all_, '.1f')})",
            f"{n / median(all_):,.0f}",
            f"{median(busy):.1f} s ({spread(busy, '.1f')})",
        )
        for n, all_, busy in zip(tokens, seconds, processors, strict=True)
    ]
    times = tokens[-1] / tokens[0]
    power = _power(median(seconds[0]), median(seconds[-1]), times)
    busy = _power(median(processors[0]), median(processors[-1]), times)
    said = (
        f"Time grows with the tokens to the power of {power}; that of all processors, which holds "
        f"the start of the process, to the power of {busy}."
    )
    head = (f"tokens of a fit ({where(result)})", "training, median (all)", "tokens/s")
    return [*markdown((*head, "whole process, all processors"), rows, left=0), "", said]


def _memory(result: dict[str, Any]) -> list[str]:
    sizes = list(zip(*result["memory"], strict=True))
    shown: dict[int, list[str]] = {}
    for size in sizes:
        peaks = spread([turn["peak_mib"] for turn in size], ",")
        own = spread([turn["own_mib"] for turn in size], ",")
        shown.setdefault(size[0]["rows"], []).extend([f"{peaks} MiB", f"{own} MiB"])
    head = ("rows of the set", "peak, rows prepared", "without files", "peak, prepared before")
    rows = [(f"{count:,}", *cells) for count, cells in shown.items()]
    return markdown((*head, "without files"), rows, left=0)


def _comparisons(result: dict[str, Any]) -> list[str]:
    times: dict[tuple[int, int], list[float]] = {}
    for one in (one for turn in result["evaluation"] for one in turn):
        work = sum(one["parts"][name] for name in WORK)
        times.setdefault((one["rows"], one["systems"]), []).append(work)
    rows = [
        (
            f"{count:,} x {systems}",
            f"{median(all_):.1f} s ({spread(all_, '.1f')})",
            f"{1000 * median(all_) / count / systems:.1f} ms",
        )
        for (count, systems), all_ in times.items()
    ]
    counts, numbers = sorted({key[0] for key in times}), sorted({key[1] for key in times})
    most = median(times[counts[-1], numbers[-1]])
    few, one = median(times[counts[0], numbers[-1]]), median(times[counts[-1], numbers[0]])
    said = (
        f"Time grows with the rows to the power of {_power(few, most, counts[-1] / counts[0])}, "
        f"with the systems to the power of {_power(one, most, numbers[-1] / numbers[0])}."
    )
    head = ("rows x systems compared", "scores, statistics, reports: median (all)", "a reply")
    return [*markdown(head, rows, left=0), "", said]
