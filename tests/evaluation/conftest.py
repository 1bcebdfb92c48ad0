"""Replies for the tests of metrics and statistics."""

from typing import Any

from tuner.evaluation.predictions import Prediction


def pair(prediction: str, reference: str, **fields: Any) -> Prediction:
    """A reply beside its reference."""
    defaults: dict[str, Any] = {
        "category": "",
        "prompt": "",
        "stop_reason": "eos",
        "new_tokens": 1,
        "seconds": 0.1,
    }
    return Prediction(
        system="lora", id="e", prediction=prediction, reference=reference, **defaults | fields
    )


def pairs(predictions: list[str], references: list[str]) -> list[Prediction]:
    return [pair(ours, theirs) for ours, theirs in zip(predictions, references, strict=True)]
