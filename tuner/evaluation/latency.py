"""How long one user waits: replies one at a time, after a warm-up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.errors import UserError
from tuner.generate import generate
from tuner.merging import fold, is_quantised

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

    The adapter is not usable afterwards. See `tuner.merging`.
    """
    try:
        return None if is_quantised(model) else fold(model)
    except UserError:
        return None
