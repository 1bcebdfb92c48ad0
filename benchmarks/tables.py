"""Write the result tables of the documentation from the result files; no figure is typed by hand.

    python benchmarks/tables.py            # after new files in benchmarks/results
    python benchmarks/tables.py --check    # exit 1 when a table and its files differ

`benchmarks/results/NAME.json` is the results.json of `eval.py NAME` as it was written, or what the
benchmark NAME.py wrote; `recipes.py` writes one file a recipe in `benchmarks/results/recipes/`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cost_tables
import recipe_tables
import reliability_tables
import speed_tables

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def _value(system: dict[str, Any], metric: str) -> str:
    low, high = system["ci95"][metric]
    return f"{system['metrics'][metric]:.3f} ({low:.3f} to {high:.3f})"


def row(results: dict[str, Any]) -> str:
    """One line of the table: the first tuned system of a comparison against its base."""
    comparison = next(
        c for c in results["comparisons"] if c["a"] == "base" and c["metric"] == "rougeL"
    )
    base, tuned = results["systems"]["base"], results["systems"][comparison["b"]]
    low, high = comparison["ci95"]
    data = results["test_set"]["source"].split(" (")[0]
    return " | ".join(
        [
            f"| {comparison['b']}: {tuned['head']} on {tuned['base'].split('/')[-1]}",
            f"{data}, {results['test_set']['n']} rows",
            f"{tuned['trainable_percent']:.2f} %",
            _value(base, "rougeL"),
            _value(tuned, "rougeL"),
            f"{comparison['delta']:+.3f} ({low:+.3f} to {high:+.3f})",
            f"{base['metrics']['bleu']:.3f} → {tuned['metrics']['bleu']:.3f}",
            f"{comparison['p_holm']:.1g} |",
        ]
    )


def table() -> str:
    """The table over all result files, in Markdown."""
    lines = [
        "| run | test set | trained | ROUGE-L base | tuned | difference | BLEU | p (Holm) |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for file in sorted(RESULTS.glob("*.json")):
        results = json.loads(file.read_text(encoding="utf-8"))
        if results.get("schema") == 1:
            lines.append(row(results))
    return "\n".join(lines)


def plan_table() -> str:
    """Planned and measured peak memory."""
    result = json.loads((RESULTS / "plan.json").read_text(encoding="utf-8"))
    lines = [
        f"| head ({result['million_weights']:.0f} M weights, {result['cpus']} CPU cores, "
        f"{result['libc']}) | rows x tokens | planned MiB | measured MiB | planned / measured |",
        "|---|---|--:|--:|--:|",
    ]
    for one in result["cases"]:
        mean = statistics.mean(one["measured_mib"])
        lines.append(
            f"| {one['name']} | {one['rows']} x {one['tokens']} | {one['planned_mib']:,} | "
            f"{', '.join(f'{peak:,}' for peak in one['measured_mib'])} | "
            f"{one['planned_mib'] / mean:.2f} |"
        )
    return "\n".join(lines)


PAGES = {
    "docs/memory.md": {"plan": plan_table},
    "README.md": {"results": table},
    "docs/recipes.md": {
        "recipes": recipe_tables.recipes,
        "comparisons": recipe_tables.comparisons,
    },
    "docs/reliability.md": {
        name: partial(reliability_tables.section, name)
        for name in ("faults", "load", "input", "security", "sameness")
    },
    "docs/benchmarks.md": {
        "training": speed_tables.training,
        "full_size": speed_tables.full_size,
        "attention": speed_tables.attention,
        "generation": speed_tables.generation,
        "decoding": speed_tables.decoding,
        "data": cost_tables.data,
        "tokenisation": cost_tables.tokenisation,
        "startup": cost_tables.startup,
        "evaluation": cost_tables.evaluation,
        "growth": cost_tables.growth,
    },
}


def filled(text: str, mark: str, content: str) -> str:
    """The text with what stands between the marks replaced."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def main() -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    drifted = 0
    for name, tables in PAGES.items():
        page = ROOT / name
        old = new = page.read_text(encoding="utf-8")
        for mark, make in tables.items():
            new = filled(new, mark, make())
        drifted += old != new
        if not check:
            page.write_text(new, encoding="utf-8")
    return int(check and drifted > 0)


if __name__ == "__main__":
    sys.exit(main())
