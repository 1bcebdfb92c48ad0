"""Attention forward and backward by each of PyTorch's back ends, at TinyLlama-1.1B's heads.

    python benchmarks/attention.py [--tokens 512 2048] [--rows 4]

As a training step calls it: bfloat16, causal, 32 heads of queries that share 4 of keys. A back end
that cannot compute it here is written down as null. Beside them: what padding costs, the same rows
with a mask, of which half the tokens are padding.
Writes benchmarks/results/attention.json; then `python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from typing import Any

import torch
from full_size import SHAPE
from measure import write
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BACK_ENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "plain products": SDPBackend.MATH,
}


def heads(rows: int, tokens: int) -> list[torch.Tensor]:
    """Queries, keys and values (rows, heads, tokens, D) of random numbers."""
    many, few = SHAPE["num_attention_heads"], SHAPE["num_key_value_heads"]
    width = SHAPE["hidden_size"] // many
    kind: dict[str, Any] = {"dtype": torch.bfloat16, "device": DEVICE, "requires_grad": True}
    return [torch.randn(rows, count, tokens, width, **kind) for count in (many, few, few)]


def milliseconds(parts: list[torch.Tensor], mask: torch.Tensor | None, turns: int) -> list[float]:
    """Of forward and backward together, after one call that is not counted."""
    found = list[float]()
    for _ in range(turns + 1):
        began = time.perf_counter()
        out = F.scaled_dot_product_attention(
            *parts, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )
        grads = torch.autograd.grad(out.sum(), parts)
        grads[0].sum().item()  # waits for a GPU
        found.append(round(1000 * (time.perf_counter() - began), 3))
    return found[1:]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    cases = list[dict[str, Any]]()
    for tokens in options.tokens:
        parts = heads(options.rows, tokens)
        causal = torch.ones(tokens, tokens, dtype=torch.bool, device=DEVICE).tril()
        masked = causal.expand(options.rows, 1, -1, -1).clone()
        masked[::2, :, :, : tokens // 2] = False
        masked[::2, :, : tokens // 2, 0] = True  # a token that sees nothing has no softmax
        times: dict[str, list[float] | None] = {}
        for name, back_end in BACK_ENDS.items():
            try:
                with sdpa_kernel(back_end), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # why a back end cannot
                    times[name] = milliseconds(parts, None, options.turns)
            except RuntimeError:
                times[name] = None
        times["chosen by PyTorch"] = milliseconds(parts, None, options.turns)
        times["chosen by PyTorch, with a mask"] = milliseconds(parts, masked, options.turns)
        cases.append({"rows": options.rows, "tokens": tokens, "milliseconds": times})
        print({name: all_ and statistics.median(all_) for name, all_ in times.items()}, flush=True)
    write("attention", {"cases": cases})


if __name__ == "__main__":
    main()
