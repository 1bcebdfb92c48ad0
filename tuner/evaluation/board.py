"""A comparison in TensorBoard: the numbers of results.json and the sample texts of the reports."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tuner.evaluation.view import build_view, clip
from tuner.markdown import blocks
from tuner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tuner.evaluation.predictions import Prediction


def write_board(
    folder: Path, results: Mapping[str, Any], predictions: Sequence[Prediction]
) -> None:
    """Write one run of TensorBoard for each system, in place of what stood there.

    Args:
        folder: of the runs.
        results: the content of results.json.
        predictions: the rows of predictions.jsonl.
    """
    from torch.utils.tensorboard import SummaryWriter

    for stale in folder.glob("*/events.out.tfevents.*"):
        stale.unlink()
    examples = build_view(results, predictions)["examples"]
    for (name, system), own in zip(
        results["systems"].items(), folder_names(results["systems"]), strict=True
    ):
        writer = SummaryWriter(str(folder / own))
        for tag, value in _scalars(system):
            writer.add_scalar(tag, value)
        for split, points in ((results.get("curves") or {}).get(name) or {}).items():
            for step, loss in points:
                writer.add_scalar(f"loss/{split}", loss, step)
        if found := (results.get("forgetting") or {"systems": {}})["systems"].get(name):
            writer.add_scalar("forgetting/nll", found["metrics"])
        for number, example in enumerate(examples, start=1):
            reply = next(one for one in example["replies"] if one.system == name)
            texts = {
                "prompt": clip(reply.prompt),
                "reference": clip(reply.reference),
                "reply": clip(reply.prediction),
            }
            writer.add_text(f"example {number}", blocks(texts))
        writer.close()


def folder_names(systems: Iterable[str]) -> list[str]:
    """A folder for each system: its name without what a path could read otherwise."""
    found: list[str] = []
    for name in systems:
        plain = re.sub(r"[^\w@.-]+", "-", visible(name))[:80].strip(".-") or "system"
        taken = [plain, *(f"{plain}-{number}" for number in range(2, len(found) + 2))]
        found.append(next(one for one in taken if one.lower() not in map(str.lower, found)))
    return found


def _scalars(system: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    for key, value in system["metrics"].items():
        if value is not None:
            yield f"metrics/{_tag(key)}", value
            if ends := system["ci95"][key]:
                yield f"ci95_low/{_tag(key)}", ends[0]
                yield f"ci95_high/{_tag(key)}", ends[1]
    for form, of in (system["latency"].get("alone") or {}).items():
        for key in ("p50", "p95", "first_token_p50", "first_token_p95", "new_tokens_per_second"):
            yield f"latency_{_tag(form)}/{key}", of[key]
    for reason, share in system["stops"].items():
        yield f"replies/{reason}", share
    yield "trainable_percent", system["trainable_percent"]


def _tag(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", visible(name))
