"""A training step of TinyLlama-1.1B's exact shape beside TRL: tokens/s, peak memory, arithmetic.

    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/full_size.py [--batch_size 4] [--tokens 512 [2048 ...]]

The weights are random, in bfloat16 on both sides; rows are of equal length, so that nothing is
gained by grouping. The arithmetic of a step is counted as 4 operations a weight and token: two
going forward, two for the gradient of the inputs, none for frozen weights. What the machine can do
is measured right before each run: the bfloat16 products of one block of the model.
On a GPU, an NF4 base and compiled blocks are measured as well.
Writes benchmarks/results/full_size.json; then `python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measure import write
from training import DTYPES, fit, peer, rates

SHAPE = {
    "vocab_size": 32_000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}
SYSTEMS: dict[str, dict[str, Any]] = {
    "tuner": {},
    "tuner_recompute": {"model.gradient_checkpointing": "true"},
    "trl": {},
    "trl_no_recompute": {"gradient_checkpointing": False},
}
ON_GPU: dict[str, dict[str, Any]] = {
    "tuner_nf4": {"model.quantize": "nf4"},
    "tuner_compiled": {"model.compile": "true"},
}
WARM_UP = 1  # steps before the clock starts: in the first one memory is had and kernels are made


def write_base(folder: Path) -> int:
    """A model of TinyLlama's shape with random weights and pico's tokenizer; its size."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tuner.backbone import load_tokenizer
    from tuner.weights import PICO

    load_tokenizer("pico").save_pretrained(folder)
    ids = json.loads((PICO / "config.json").read_text(encoding="utf-8"))
    marks = {key: ids[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(0)
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPE, **marks, dtype="bfloat16"))
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    for weight in model.parameters():
        weight.data.normal_(std=0.02) if weight.dim() > 1 else weight.data.fill_(1)
    model.save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def write_rows(file: Path, tokens: int, count: int) -> None:
    """Rows of exactly so many tokens, a quarter of them the prompt."""
    from tuner.backbone import load_tokenizer

    tokenizer = load_tokenizer("pico")
    draw = random.Random(0)
    common = ["time", "order", "house", "water", "people", "money", "letter", "number", "a", "the"]
    words = [w for w in common if all(len(tokenizer.tokenize(x)) == 1 for x in (w, f" {w}"))]

    def row(words_of_reply: int) -> list[dict[str, str]]:
        ask, reply = (draw.choices(words, k=k) for k in (tokens // 4, words_of_reply))
        texts = (("user", " ".join(ask)), ("assistant", " ".join(reply)))
        return [{"role": role, "content": text} for role, text in texts]

    frame = len(tokenizer.apply_chat_template(row(1), return_dict=False)) - 1
    with file.open("w", encoding="utf-8") as out:
        for _ in range(count):
            messages = row(tokens - frame)
            if (found := len(tokenizer.apply_chat_template(messages, return_dict=False))) != tokens:
                raise SystemExit(f"a row has {found} tokens instead of {tokens}")
            out.write(json.dumps({"messages": messages}) + "\n")


def matmul_rate(rows: int, device: str) -> float:
    """Operations a second of the bfloat16 products of one block."""
    hidden, wide = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    keys = hidden // SHAPE["num_attention_heads"] * SHAPE["num_key_value_heads"]
    sizes = [(hidden, hidden), (keys, hidden), (keys, hidden), (hidden, hidden)]  # q, k, v, o
    sizes += [(wide, hidden), (wide, hidden), (hidden, wide)]  # gate, up, down
    kind: dict[str, Any] = {"dtype": torch.bfloat16, "device": device}
    weights = [torch.randn(size, **kind) for size in sizes]
    inputs = {width: torch.randn(rows, width, **kind) for width in (hidden, wide)}

    def seconds(times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            for weight in weights:
                out = inputs[weight.shape[1]] @ weight.T
        out.sum().item()  # waits for a GPU
        return time.perf_counter() - began

    seconds(3)
    times = max(3, int(2.0 / (seconds(3) / 3)))
    return 2 * rows * sum(weight.numel() for weight in weights) * times / seconds(times)


def turn(folder: Path, job: dict[str, Any], system: str, weights: int) -> dict[str, float]:
    """One training, and what the machine can do right before it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine = matmul_rate(job["batch_size"] * job["max_length"], device)
    side = fit if system.startswith("tuner") else peer
    found = side(folder, job, (SYSTEMS | ON_GPU)[system])
    speed = rates(found, WARM_UP)
    return {
        **{key: round(value, 2) for key, value in speed.items()},
        "matmul_tflops": round(machine / 1e12, 4),
        "share_of_matmul": round(4 * weights * speed["tokens_per_second"] / machine, 4),
        "peak_mib": round(found["peak_mib"]),
    }


def main() -> None:
    """Measure, print and write."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512], help="of a row")
    parser.add_argument("--steps", type=int, default=3, help="after the first one")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--systems", nargs="+", default=[*SYSTEMS, *(ON_GPU if gpu else ())])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        result: dict[str, Any] = {"weights": write_base(folder / "base"), "cases": []}
        for tokens in args.tokens:
            write_rows(folder / "train.jsonl", tokens, args.batch_size * (args.steps + WARM_UP))
            job = {
                "base": str(folder / "base"),
                "precision": "bf16",
                "dtype": DTYPES["bf16"],
                "max_length": tokens,
                "batch_size": args.batch_size,
                "lr": 1e-4,
                "seed": 0,
            }
            systems: dict[str, list[dict[str, float]]] = {name: [] for name in args.systems}
            for _ in range(args.repeat):
                for name in args.systems:
                    systems[name].append(turn(folder, job, name, result["weights"]))
                    print(tokens, name, systems[name][-1], flush=True)
            result["cases"].append({"rows": args.batch_size, "tokens": tokens, "systems": systems})
            write("full_size", result)


if __name__ == "__main__":
    main()
