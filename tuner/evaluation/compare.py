"""A comparison from end to end: answer once, score, do the statistics, write it all down."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from threadpoolctl import threadpool_limits

from tuner.evaluation.answer import Decoding, answer
from tuner.evaluation.board import write_board
from tuner.evaluation.forgetting import forgotten, general_texts
from tuner.evaluation.human import summarise
from tuner.evaluation.journal import forget
from tuner.evaluation.predictions import (
    Prediction,
    write_atomically,
    write_predictions,
    write_table,
)
from tuner.evaluation.reading import MADE_OF
from tuner.evaluation.report import render_html, render_markdown
from tuner.evaluation.results import Setting, build_results, write_results
from tuner.evaluation.score import applicable, score
from tuner.runs import read_losses
from tuner.sums import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuner.evaluation.metric import Metric
    from tuner.evaluation.suite import Suite
    from tuner.evaluation.systems import System
    from tuner.evaluation.testset import TestSet

PACKAGES = ("tuner", "torch", "transformers", "peft", "sacrebleu", "rouge-score")
POINTS = 200  # of a loss curve in results.json


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a comparison measures, and what it goes by.

    Attributes:
        metrics: from `select_metrics`.
        named: whether the metrics were asked for by name; otherwise those that do not apply are
            left out.
        primary: key of the metric that decides; chosen by `build_results` when null.
        decoding: how replies are generated.
        latency_prompts: prompts that are answered alone for the waiting time; 0 for none.
        seed: of the statistics and of the examples that reports draw.
        suite: where the prompts come from, if they are curated ones.
        command: what was typed.
    """

    metrics: Mapping[str, Metric]
    named: bool
    primary: str | None
    decoding: Decoding
    latency_prompts: int
    seed: int
    suite: Suite | None
    command: str


def compare(
    systems: Sequence[System], test_set: TestSet, plan: Plan, output: Path
) -> tuple[dict[str, Any], list[Prediction]]:
    """Compare systems on a test set and write predictions, results and reports into a folder.

    One that was stopped goes on where it was, as long as nothing has changed that replies depend
    on.

    Args:
        systems: who answers; one named `base` is what the others are compared with.
        test_set: the rows.
        plan: what is measured.
        output: folder for the files; made when needed.

    Returns:
        The content of results.json and the scored rows.

    Raises:
        UserError: a metric that was asked for by name says nothing about the rows.
    """
    texts = general_texts()
    output.mkdir(parents=True, exist_ok=True)
    answers = {
        system.name: answer(
            system,
            test_set,
            plan.decoding,
            output,
            latency_prompts=plan.latency_prompts,
            texts=[one.text for one in texts],
        )
        for system in systems
    }
    rows = [row for found in answers.values() for row in found.rows]
    metrics = dict(plan.metrics) if plan.named else applicable(plan.metrics, rows)
    scored = score(rows, metrics)
    setting = _setting(systems, test_set, plan)
    # The matrices of the statistics are narrow: threads would wait for each other, not work.
    with threadpool_limits(1, user_api="blas"):
        results = build_results(scored, setting, primary=plan.primary)
    for name, found in answers.items():
        results["systems"][name]["latency"]["alone"] = found.latency
    results["forgetting"] = forgotten(
        {name: found.general for name, found in answers.items() if found.general},
        texts,
        "base",
        plan.seed,
    )
    results["curves"] = {one.name: curves(one.run) for one in systems if one.run is not None}
    first = next((one for one in systems if one.run is not None), None)
    results["data_card"] = None if first is None else first.card
    write_predictions(output / "predictions.jsonl", scored.predictions)
    # Where a kill leaves these predictions beside the results of others, that is noticed.
    results[MADE_OF] = sha256_of(output / "predictions.jsonl")
    write_reports(output, results, scored.predictions)
    forget(output)
    return results, scored.predictions


def write_reports(folder: Path, results: dict[str, Any], predictions: Sequence[Prediction]) -> None:
    """Write results.json and the reports, with what people have said of the replies so far.

    Args:
        folder: of the comparison, with its predictions.jsonl and ratings.
        results: the content of results.json; its `human` is made anew.
        predictions: the scored rows.
    """
    results["human"] = summarise(folder)
    write_results(folder / "results.json", results)
    write_atomically(folder / "report.md", render_markdown(results, predictions))
    write_atomically(folder / "report.html", render_html(results, predictions))
    write_table(folder / "predictions.csv", predictions)
    write_board(folder / "tensorboard", results, predictions)


def _setting(systems: Sequence[System], test_set: TestSet, plan: Plan) -> Setting:
    suite = plan.suite
    method = "greedy" if plan.decoding.temperature == 0 else "sampling"
    return Setting(
        test_set=test_set.description,
        systems={
            system.name: {
                "run": None if system.run is None else "/".join(system.run.resolve().parts[-2:]),
                "base": system.base,
                "revision": system.revision,
                "quantize": system.quantize,
                **system.hashes,
                "head": system.head,
                "trainable_params": system.trainable_params,
                "trainable_percent": system.trainable_percent,
                "batch_size": plan.decoding.batch_size,
                "recipe": system.recipe,
                "seed": system.config["seed_everything"] if system.run else None,
                "baseline": system.baseline or bool(system.shots),
            }
            for system in systems
        },
        decoding={"method": method, **asdict(plan.decoding)},
        seed=plan.seed,
        command=plan.command,
        environment={
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "threads": torch.get_num_threads(),
        },
        suite=None
        if suite is None
        else {
            "name": suite.name,
            "description": suite.description,
            "rubric": dict(suite.rubric),
            "sha256": suite.sha256,
        },
    )


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The losses of a run by optimiser step, thinned out to what a plot can show.

    Args:
        run: its folder.

    Returns:
        `train` and `val`: (step, nats a token); empty where the run has none.
    """
    found = read_losses(run)
    return {name: points[:: max(1, len(points) // POINTS)] for name, points in found.items()}
