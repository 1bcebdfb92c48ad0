"""Tables of how fast things are beside what users would pick instead; `tables.py` places them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median
from typing import Any

import numpy as np
from cost_tables import markdown, read, spread, where
from scipy import stats

NAMES = {
    "tuner": "tuner",
    "tuner_recompute": "tuner, gradient_checkpointing",
    "trl": "TRL, its defaults",
    "tuner_nf4": "tuner, NF4 base",
    "tuner_compiled": "tuner, compiled blocks",
    "trl_grouped": "TRL, grouped by length, nothing recomputed",
    "trl_padding_free": "TRL, without padding, nothing recomputed",
    "trl_packed": "TRL, packed, nothing recomputed",
    "trl_no_recompute": "TRL, nothing recomputed",
}


def _column(turns: Sequence[dict[str, float]], key: str) -> list[float]:
    return [turn[key] for turn in turns]


def _difference(ours: list[float], theirs: list[float]) -> str:
    """Mean of the differences of paired turns, with Student's 95 % interval."""
    found = np.subtract(ours, theirs)
    if len(found) < 2:
        return f"{found.mean():+.3f}"
    low, high = stats.t.interval(0.95, len(found) - 1, found.mean(), stats.sem(found))
    return f"{found.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def training() -> str:
    """Tokens a second, memory and loss of an epoch on the same rows."""
    result = read("training")
    head = (
        f"set, precision ({where(result)})",
        "trainer",
        "tokens/s, median (all)",
        "tuner's rate to it",
        "by processor time",
        "peak memory",
        "loss on rows held back, mean",
        "tuner's loss less it (95 %)",
    )
    lines = list[Sequence[str]]()
    for case in result["cases"]:
        ours = case["systems"]["tuner"]
        for name, turns in case["systems"].items():
            compared = ["", "", ""]
            if turns is not ours:
                compared[:2] = (
                    f"{median(_column(ours, key)) / median(_column(turns, key)):.1f}x"
                    for key in ("tokens_per_second", "tokens_per_cpu_second")
                )
                compared[2] = _difference(_column(ours, "loss"), _column(turns, "loss"))
            rates = _column(turns, "tokens_per_second")
            lines.append(
                (
                    f"{case['set']}, {case['precision']}, {case['rows']} rows",
                    NAMES[name],
                    f"{median(rates):,.0f} ({spread(rates, ',.0f')})",
                    *compared[:2],
                    f"{median(_column(turns, 'peak_mib')):,.0f} MiB",
                    f"{mean(_column(turns, 'loss')):.3f}",
                    compared[2],
                )
            )
    return "\n".join(markdown(head, lines, left=2))


def full_size() -> str:
    """A step of TinyLlama's shape: tokens a second, share of the matrix rate, memory."""
    result = read("full_size")
    head = (
        f"trainer ({where(result)})",
        "rows x tokens",
        "tokens/s (all)",
        "tokens a second of one core",
        "share of the matrix rate",
        "matrix rate, TFLOP/s",
        "peak memory",
    )
    lines = [
        (
            NAMES[name],
            f"{case['rows']} x {case['tokens']:,}",
            spread(_column(turns, "tokens_per_second"), ",.1f"),
            spread(_column(turns, "tokens_per_cpu_second"), ",.1f"),
            spread(_column(turns, "share_of_matmul"), ".0%"),
            spread(_column(turns, "matmul_tflops"), ".2f"),
            f"{max(_column(turns, 'peak_mib')):,.0f} MiB",
        )
        for case in result["cases"]
        for name, turns in case["systems"].items()
    ]
    return "\n".join(markdown(head, lines, left=2))


def generation() -> str:
    """Seconds until all prompts are answered, beside one library call each."""
    result = read("generation")
    head = (
        f"system ({where(result)})",
        "prompts",
        "new tokens",
        "one call each, s",
        "ours, s",
        "times as fast: wall (CPU)",
        "same replies",
    )
    lines = list[Sequence[str]]()
    for one in result["cases"]:
        wall, cpu = (_times_as_fast(one[clock]) for clock in ("seconds", "cpu_seconds"))
        lines.append(
            (
                one["system"],
                f"{one['prompts']} of {one['data']}",
                f"{one['new_tokens']:,}",
                *(spread(one["seconds"][side], ".1f") for side in ("peer", "ours")),
                f"{wall:.1f} ({cpu:.1f})",
                f"{one['identical']} of {one['prompts']}",
            )
        )
    return "\n".join(markdown(head, lines, left=2))


def attention() -> str:
    """Milliseconds of attention by each back end."""
    result = read("attention")
    head = (f"back end ({where(result)}, torch {result['versions']['torch']})", "rows x tokens")
    lines = [
        (name, f"{case['rows']} x {case['tokens']:,}", "cannot")
        if times is None
        else (name, f"{case['rows']} x {case['tokens']:,}", f"{median(times):,.1f}")
        for case in result["cases"]
        for name, times in case["milliseconds"].items()
    ]
    return "\n".join(markdown((*head, "forward and backward, ms"), lines, left=2))


def decoding() -> str:
    """Tokens a second of replies by each form of a model."""
    result = read("decoding")
    head = (f"{result['prompts']} prompts together ({where(result)})", "tokens/s (all)", "peak")
    lines = list[Sequence[str]]()
    for form, turns in result["forms"].items():
        rates = [turn["new_tokens"] / turn["seconds"] for turn in turns]
        peaks = [turn["peak_mib"] for turn in turns if "peak_mib" in turn]
        lines.append((form, spread(rates, ",.1f"), f"{max(peaks):,} MiB" if peaks else "-"))
    return "\n".join(markdown(head, lines))


def _times_as_fast(times: dict[str, Any]) -> float:
    return median(times["peer"]) / median(times["ours"])
