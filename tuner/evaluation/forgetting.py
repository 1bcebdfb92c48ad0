"""What a model forgets: the likelihood of general text, before and after training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.data.encode import IGNORED, Encoded
from tuner.errors import UserError
from tuner.evaluation.estimate import compare, estimate
from tuner.evaluation.likelihood import row_nats
from tuner.evaluation.metric import select_metrics
from tuner.evaluation.predictions import Prediction
from tuner.evaluation.score import score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

GENERAL = Path(__file__).parents[2] / "data" / "samples" / "general.jsonl"


@dataclass(frozen=True, slots=True)
class GeneralText:
    """A passage of plain general English.

    Attributes:
        id: its name in the file.
        text: the passage.
    """

    id: str
    text: str


def general_texts() -> list[GeneralText]:
    """The shipped passages; no recipe trains on them.

    Raises:
        UserError: the file is missing or spoilt.
    """
    try:
        lines = GENERAL.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return [GeneralText(row["id"], row["text"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read the general text in {GENERAL}: {error!r}") from error


def text_nll(
    model: Any, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], batch_size: int
) -> list[tuple[float, int]]:
    """How unlikely a model finds each text, read as plain text and not as a conversation.

    A text has the special tokens that its tokenizer puts around a text by itself. Its first token
    has no loss, also where the virtual tokens of a head stand in front. The sum of all nats over
    that of all tokens is the logarithm of the usual perplexity.

    Args:
        model: a causal language model on its device, with or without an adapter, in evaluation
            mode.
        tokenizer: of its base.
        texts: passages within the context length of the model.
        batch_size: texts read together; has no influence on the values.

    Returns:
        For each text, in order: the sum in nats and the number of tokens that it is of, 0 for a
        text without a second token.
    """
    rows: list[Encoded] = []
    for place, text in enumerate(texts):
        ids = np.asarray(tokenizer(text)["input_ids"], dtype=np.int32)
        labels = ids.copy()
        labels[:1] = IGNORED
        rows.append(Encoded(ids, labels, row=place))
    read = [row for row in rows if len(row.input_ids) > 1]
    nats = row_nats(model, read, batch_size=batch_size)
    found = dict(zip((row.row for row in read), nats, strict=True))
    return [found.get(place, (0.0, 0)) for place in range(len(rows))]


def forgotten(
    nats: Mapping[str, Sequence[tuple[float, int]]],
    texts: Sequence[GeneralText],
    base: str,
    seed: int,
) -> dict[str, Any] | None:
    """Compares systems by the likelihood of general text, text by text.

    Args:
        nats: of each system, what `text_nll` gives for the texts.
        texts: the passages.
        base: what the others are compared with, if it is among them.
        seed: of the statistics.

    Returns:
        `texts` (their number), `systems` (`metrics`: nats a token, and their `ci95`) and
        `comparisons` like those of results.json; None without systems.
    """
    if not nats:
        return None
    rows = [
        Prediction(
            system=system,
            id=text.id,
            category="",
            prompt="",
            reference=text.text,
            prediction="",
            stop_reason="empty",
            new_tokens=0,
            seconds=0.0,
            reference_nll=total,
            reference_tokens=tokens,
        )
        for system, found in nats.items()
        for text, (total, tokens) in zip(texts, found, strict=True)
    ]
    scored = score(rows, select_metrics(["nll"]))
    estimates = estimate(scored, seed=seed)
    pairs = [(base, system) for system in nats if system != base] if base in nats else []
    return {
        "texts": len(texts),
        "systems": {
            system: {key: of["nll"] for key, of in estimates.system(index).items()}
            for index, system in enumerate(scored.systems)
        },
        "comparisons": compare(scored, estimates, pairs, "nll", seed=seed),
    }
