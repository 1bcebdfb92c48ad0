"""Tokens a second of replies by TinyLlama-1.1B's shape: adapter beside, folded in, on an NF4 base.

    python benchmarks/decoding.py [--prompts 8] [--new_tokens 16]

Random weights and a random LoRA of rank 16; greedy, in bfloat16, all prompts together, in turn, as
`eval.py` generates.
Writes benchmarks/results/decoding.json; then `python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from full_size import write_base
from generation import DEVICE, PROMPT, random_lora
from measure import write
from transformers import AutoModelForCausalLM

from tuner.attention import attend_by_row
from tuner.backbone import Quantize, load_base, load_tokenizer
from tuner.callbacks.throughput import peak_memory_mib
from tuner.data.encode import encode_header
from tuner.data.example import Message
from tuner.evaluation.latency import merged
from tuner.generate import generate, stop_ids

FORMS: dict[str, tuple[Quantize | None, bool]] = {  # quantisation, and whether it is folded in
    "LoRA beside the base": (None, False),
    "LoRA folded into the base": (None, True),
    "LoRA beside an NF4 base": ("nf4", False),
}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


def load(base: Path, adapter: Path, form: str) -> Any:
    """The model in that form, as a comparison asks it."""
    from peft import PeftModel

    quantize, folded = FORMS[form]
    model: Any = load_base(str(base), quantize=quantize, dtype=torch.bfloat16, device=DEVICE)
    model = model if quantize else model.to(DEVICE)
    model = PeftModel.from_pretrained(model, str(adapter)).eval()
    attend_by_row(model)
    return merged(model) if folded else model


def measure(model: Any, prompts: int, new_tokens: int) -> dict[str, Any]:
    """Seconds from token ids to texts, after a short call that is not counted."""
    tokenizer = load_tokenizer("pico")
    headers = [
        encode_header([Message("user", f"Tell me about number {n}.")], PROMPT, tokenizer)
        for n in range(prompts)
    ]

    def replies(most: int) -> int:
        found = generate(
            model,
            headers,
            tokenizer=tokenizer,
            stops=stop_ids(PROMPT, tokenizer),
            max_new_tokens=most,
            batch_size=prompts,
        )
        return sum(reply.new_tokens for reply in found)

    replies(2)
    began = time.perf_counter()
    tokens = replies(new_tokens)
    return {"new_tokens": tokens, "seconds": round(time.perf_counter() - began, 2)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--new_tokens", type=int, default=16)
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    forms: dict[str, list[dict[str, Any]]] = {form: [] for form in FORMS}
    with tempfile.TemporaryDirectory() as folder:
        base, adapter = Path(folder) / "base", Path(folder) / "adapter"
        write_base(base)
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
        random_lora(plain, TARGETS).save_pretrained(adapter)
        del plain
        for _ in range(options.turns):
            for form in FORMS:
                if DEVICE.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                model = load(base, adapter, form)
                forms[form].append(measure(model, options.prompts, options.new_tokens))
                if DEVICE.type == "cuda":
                    forms[form][-1]["peak_mib"] = round(peak_memory_mib())
                del model
                print(form, forms[form][-1], flush=True)
    write("decoding", {"prompts": options.prompts, "forms": forms})


if __name__ == "__main__":
    main()
