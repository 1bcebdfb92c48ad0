"""The report of a sweep: results.json, report.md and report.html in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.evaluation import tables, verdicts
from tuner.evaluation.predictions import write_atomically
from tuner.evaluation.reading import read_results
from tuner.evaluation.report import html_templates, markdown_templates
from tuner.sweep.findings import runs_table, sentences, settings_table
from tuner.sweep.plots import draw_plots

TEMPLATES = Path(__file__).parent
COMPARISON = "comparison"  # folder of the answers to the test split


def write_report(folder: Path, results: Mapping[str, Any], command: str) -> None:
    """Write down what a sweep has found, with what its comparison has found, if there is one.

    Args:
        folder: of the sweep.
        results: from `summarise`.
        command: what was typed, without secrets.
    """
    compared = read_comparison(folder)
    view: dict[str, Any] = {
        "title": f"Sweep {results['name']}",
        "results": results,
        "command": command,
        "findings": sentences(results),
        "settings": settings_table(results),
        "runs": runs_table(results),
        "compared": compared and verdicts.sentences(compared),
        "summary": compared and tables.summary(compared),
        "test_set": compared and compared["test_set"],
        "link": f"{COMPARISON}/report.html",
    }
    text = json.dumps({**results, "command": command}, indent=2, ensure_ascii=False)
    write_atomically(folder / "results.json", text + "\n")
    markdown = markdown_templates(TEMPLATES).get_template("sweep.md.j2")
    write_atomically(folder / "report.md", markdown.render(view))
    html = html_templates(TEMPLATES).get_template("sweep.html.j2")
    write_atomically(folder / "report.html", html.render(view | {"plots": draw_plots(results)}))


def read_comparison(folder: Path) -> dict[str, Any] | None:
    """The results of the comparison on the test split; null where there is none yet."""
    compared = folder / COMPARISON
    return read_results(compared) if (compared / "results.json").is_file() else None
