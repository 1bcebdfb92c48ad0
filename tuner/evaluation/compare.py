"""A comparison from end to end: answer once, score, do the statistics, write it all down."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tuner.backbone import load_tokenizer
from tuner.data.encode import encode_header
from tuner.data.example import SLICES
from tuner.evaluation.predictions import Prediction, write_atomically, write_predictions
from tuner.evaluation.report import render_html, render_markdown
from tuner.evaluation.results import Setting, build_results, write_results
from tuner.evaluation.score import score
from tuner.generate import generate, stop_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuner.evaluation.metric import Metric
    from tuner.evaluation.systems import System
    from tuner.evaluation.testset import TestSet

PACKAGES = ("tuner", "torch", "transformers", "peft", "sacrebleu", "rouge-score")


@dataclass(frozen=True)
class Decoding:
    """How replies are generated: greedily, the same for every system.

    Attributes:
        max_new_tokens: tokens a reply at most.
        batch_size: prompts answered together.
        dtype: type of weights and arithmetic.
    """

    max_new_tokens: int
    batch_size: int
    dtype: str = "float32"


def answer(system: System, test_set: TestSet, decoding: Decoding) -> list[Prediction]:
    """Let one system answer every prompt of the test set.

    A first batch is answered and thrown away, so that no row pays for the warm-up.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = system.load(getattr(torch, decoding.dtype), device)
    tokenizer = load_tokenizer(system.base, system.revision)
    prompt = test_set.data.prompt
    headers = [encode_header(e.prompt, prompt, tokenizer) for e in test_set.examples]
    options: dict[str, Any] = {
        "tokenizer": tokenizer,
        "stops": stop_ids(prompt, tokenizer),
        "batch_size": decoding.batch_size,
    }
    generate(model, headers[:1], max_new_tokens=4, **options)
    replies = generate(
        model,
        headers,
        max_new_tokens=decoding.max_new_tokens,
        progress=system.name,
        **options,
    )
    return [
        Prediction(
            system=system.name,
            id=example.id,
            category=example.category,
            prompt=prompt.header(example.prompt, tokenizer),
            reference=example.reply,
            prediction=reply.text,
            stop_reason=reply.stop_reason,
            new_tokens=reply.new_tokens,
            seconds=reply.seconds,
            group=example.group,
            slices={key: str(example.meta[key]) for key in SLICES if example.meta.get(key)},
        )
        for example, reply in zip(test_set.examples, replies, strict=True)
    ]


def compare(
    systems: Sequence[System],
    test_set: TestSet,
    metrics: Mapping[str, Metric],
    decoding: Decoding,
    *,
    seed: int,
    command: str,
    output: Path,
) -> tuple[dict[str, Any], list[Prediction]]:
    """Compare systems on a test set and write predictions, results and reports into a folder.

    Args:
        systems: the models; one named `base` is what the others are compared with.
        test_set: the rows.
        metrics: from `select_metrics`.
        decoding: how replies are generated.
        seed: of the statistics and of the examples that reports draw.
        command: what was typed.
        output: folder for the files; made when needed.

    Returns:
        The content of results.json and the scored rows.
    """
    rows = [row for system in systems for row in answer(system, test_set, decoding)]
    scored = score(rows, dict(metrics))
    setting = Setting(
        test_set=test_set.description,
        systems={
            system.name: {
                "base": system.base,
                "head": system.head,
                "trainable_params": system.trainable_params,
                "trainable_percent": system.trainable_percent,
                "batch_size": decoding.batch_size,
            }
            for system in systems
        },
        decoding={"method": "greedy", **asdict(decoding)},
        seed=seed,
        command=command,
        environment={
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "threads": torch.get_num_threads(),
        },
    )
    results = build_results(scored, setting)
    output.mkdir(parents=True, exist_ok=True)
    write_predictions(output / "predictions.jsonl", scored.predictions)
    write_results(output / "results.json", results)
    write_atomically(output / "report.md", render_markdown(results, scored.predictions))
    write_atomically(output / "report.html", render_html(results, scored.predictions))
    return results, list(scored.predictions)
