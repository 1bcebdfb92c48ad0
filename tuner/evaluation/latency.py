"""How long one user waits: replies one at a time, after a warm-up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.generate import generate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

MOST_TOKENS = 64  # of a reply; the first one and the pace need no more


def measure_latency(
    model: Any,
    headers: Sequence[Sequence[int]],
    *,
    tokenizer: PreTrainedTokenizerBase,
    stops: Sequence[int],
    max_new_tokens: int,
) -> dict[str, float]:
    """Answer each prompt alone and take the time.

    Args:
        model: on its device, in evaluation mode.
        headers: token ids of the prompts.
        tokenizer: decodes.
        stops: token ids that end a turn.
        max_new_tokens: tokens a reply at most.

    Returns:
        `prompts`, `batch_size` (1) and `max_new_tokens` of the measurement; `p50` and `p95` of the
        seconds a reply; `first_token_p50` and `first_token_p95` of those to its first token;
        `new_tokens_per_second` behind the first.
    """
    clock: list[float] = []
    options: dict[str, Any] = {"tokenizer": tokenizer, "stops": stops, "batch_size": 1}
    limit = min(max_new_tokens, MOST_TOKENS)

    def tick(_: object) -> None:
        clock.append(time.perf_counter())

    whole: list[float] = []
    first: list[float] = []
    tokens, pace = 0, 0.0
    generate(model, headers[:1], max_new_tokens=4, **options)
    for header in headers:
        clock.clear()
        began = time.perf_counter()
        (reply,) = generate(model, [header], max_new_tokens=limit, each_token=tick, **options)
        ended = time.perf_counter()
        whole.append(ended - began)
        first.append(clock[0] - began)
        tokens += reply.new_tokens - 1
        pace += clock[-1] - clock[0]
    return {
        "prompts": len(headers),
        "batch_size": 1,
        "max_new_tokens": limit,
        "p50": float(np.percentile(whole, 50)),
        "p95": float(np.percentile(whole, 95)),
        "first_token_p50": float(np.percentile(first, 50)),
        "first_token_p95": float(np.percentile(first, 95)),
        "new_tokens_per_second": tokens / pace if pace > 0 else 0.0,
    }


def merged(model: Any) -> Any | None:
    """The model with its adapter folded into the weights; null where it cannot be.

    The adapter is not usable afterwards. Weights of 4 or 8 bits would be rounded once more,
    virtual tokens are no weights of the base, and of an output layer that shares its weights with
    the embeddings, those would change as well.
    """
    tuner: Any = getattr(model, "base_model", None)
    quantised = getattr(model, "is_loaded_in_4bit", False) or getattr(
        model, "is_loaded_in_8bit", False
    )
    if quantised or not hasattr(model, "peft_config") or not hasattr(tuner, "merge_and_unload"):
        return None
    if tuner._get_tied_target_modules(tuner.model):
        return None
    try:
        return model.merge_and_unload()
    except NotImplementedError:  # some methods have no merged form
        return None
