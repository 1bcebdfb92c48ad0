"""Time of answering prompts as `eval.py` does, beside one `generate` call of the library each.

    python benchmarks/generation.py [--data dolly=FILE bitext=FILE] [--run FOLDER]

Both sides get the same prompts, stop tokens and limit and decode greedily in float32, in turn, from
the messages to the texts. The peer has its adapter as `PeftModel.from_pretrained` gives it; the
other side loads and merges as `eval.py` does. Cases: the embedded base, a LoRA on it (`--run`, or a
random one), and a random model of the shape of TinyLlama-1.1B with a random LoRA. Replies are
compared token by token. Where other programs run beside it, CPU seconds are steadier than those on
the wall. Writes benchmarks/results/generation.json; then `python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from full_size import SHAPE
from measure import ROOT, write
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from tuner.attention import attend_by_row
from tuner.backbone import context_length, load_tokenizer
from tuner.data.encode import encode_header
from tuner.data.example import Example, Message
from tuner.data.prompts.chat import Chat
from tuner.data.sources import Source
from tuner.evaluation.latency import merged
from tuner.evaluation.onednn import use_onednn
from tuner.evaluation.systems import System
from tuner.generate import generate, stop_ids
from tuner.plugins import subclasses
from tuner.tools.compare import BATCH_SIZE
from tuner.weights import PICO

PROMPT = Chat()
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Recording:
    """A tokenizer that keeps the tokens of every text it decodes."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.said: dict[str, set[tuple[int, ...]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        text = self.tokenizer.decode(ids, **options)
        self.said.setdefault(text.strip(), set()).add(tuple(ids))
        return text


def questions(spec: str, count: int, room: int) -> tuple[str, list[tuple[Message, ...]]]:
    """Name of a data set and prompts of it, drawn at random from those that fit."""
    name, _, file = spec.partition("=")
    kinds = {kind.lower(): one for kind, one in subclasses(Source).items()}
    source: Any = kinds[name.lower()](file, limit=4 * count)
    found = [item.prompt for item in source.items() if isinstance(item, Example)]
    tokenizer = load_tokenizer("pico")
    fits = [one for one in found if len(encode_header(one, PROMPT, tokenizer)) <= room]
    return f"{name} ({Path(file).name})", fits[:count]


def one_by_one(
    model: Any, asked: Sequence[Sequence[Message]], limit: int, tokenizer: Any
) -> list[list[int]]:
    """The tokens of each reply, one library call a prompt; the end-of-turn mark is one of them."""
    stops, replies = stop_ids(PROMPT, tokenizer), []
    for messages in asked:
        ids = torch.tensor([encode_header(messages, PROMPT, tokenizer)], device=DEVICE)
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=limit,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id,
        )
        replies.append(out[0, ids.shape[1] :].tolist())
        tokenizer.decode(replies[-1], skip_special_tokens=True)
    return replies


def gap(model: Any, header: list[int], one: list[int], other: list[int]) -> float:
    """Distance of the peer's two largest logits at the first place where replies differ."""
    place = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one) - 1
    )
    ids = torch.tensor([header + one[:place]], device=DEVICE)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, -1]
    top = logits.topk(2).values
    return float(top[0] - top[1])


def measure(
    peer: Any, ours: Any, asked: list[tuple[Message, ...]], limit: int, turns: int
) -> dict[str, Any]:
    """Answer the prompts on both sides in turn."""
    tokenizer = load_tokenizer("pico")
    stops = stop_ids(PROMPT, tokenizer)
    record = Recording(tokenizer)

    def batched(some: list[tuple[Message, ...]], most: int) -> Any:
        headers = [encode_header(messages, PROMPT, tokenizer) for messages in some]
        return generate(
            ours,
            headers,
            tokenizer=record,  # pyright: ignore
            stops=stops,
            max_new_tokens=most,
            batch_size=BATCH_SIZE,
        )

    one_by_one(peer, asked[:1], 4, tokenizer)
    batched(asked[:1], 4)
    wall: dict[str, list[float]] = {"peer": [], "ours": []}
    cpu: dict[str, list[float]] = {"peer": [], "ours": []}

    def timed(side: str, work: Callable[[], Any]) -> Any:
        began, busy = time.perf_counter(), time.process_time()
        found = work()
        wall[side].append(round(time.perf_counter() - began, 2))
        cpu[side].append(round(time.process_time() - busy, 2))
        return found

    for _ in range(turns):
        alone = timed("peer", lambda: one_by_one(peer, asked, limit, tokenizer))
        replies = timed("ours", lambda: batched(asked, limit))
    gaps: list[float] = []
    for messages, tokens, reply in zip(asked, alone, replies, strict=True):
        own = record.said[reply.text]
        spoken = tuple(tokens[:-1] if tokens[-1] in stops else tokens)
        if len(tokens) != reply.new_tokens or spoken not in own:
            header = encode_header(messages, PROMPT, tokenizer)
            gaps.append(gap(peer, header, tokens, list(next(iter(own)))))
    lengths = [len(encode_header(messages, PROMPT, tokenizer)) for messages in asked]
    return {
        "prompts": len(asked),
        "prompt_tokens": {"median": statistics.median(lengths), "max": max(lengths)},
        "max_new_tokens": limit,
        "new_tokens": sum(map(len, alone)),
        "batch_size": BATCH_SIZE,
        "seconds": wall,
        "cpu_seconds": cpu,
        "identical": len(asked) - len(gaps),
        "gaps_where_different": gaps,
    }


def random_lora(base: Any, targets: Any) -> Any:
    """A LoRA of rank 16 whose both matrices are random, so that it changes what is said."""
    torch.manual_seed(0)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=16,
        lora_alpha=32,
        target_modules=targets,
        init_lora_weights=False,
    )
    model = get_peft_model(base, config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data *= 0.1
    return model.eval()


def pico() -> Any:
    """The embedded base as the library loads it."""
    return AutoModelForCausalLM.from_pretrained(PICO, dtype=torch.float32).eval().to(DEVICE)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    support = f"conversations={ROOT / 'data' / 'samples' / 'support.jsonl'}"
    parser.add_argument("--data", nargs="+", default=[support], help="NAME=FILE, of any source")
    parser.add_argument("--run", type=Path, help="folder of a LoRA run on pico")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--max_new_tokens", type=int, default=128)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--large",
        type=int,
        nargs=3,
        default=[16, 32, 1],
        help="prompts, new tokens and turns of the large shape; 0 prompts leave it out",
    )
    options = parser.parse_args()
    cases = list[dict[str, Any]]()

    def case(name: str, data: str, found: dict[str, Any]) -> None:
        cases.append({"system": name, "data": data, **found})
        print(json.dumps(cases[-1]), flush=True)
        write("generation", {"cases": cases})

    room = (context_length("pico") or 1024) - options.max_new_tokens
    prompts, limit, turns = options.large
    if prompts:
        data, asked = questions(options.data[0], prompts, room)
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE), dtype=torch.float32)
        peer = random_lora(base.to(DEVICE), ["q_proj", "k_proj", "v_proj", "o_proj"])
        ours = _asked(use_onednn(copy.deepcopy(peer)))
        name = "shape of TinyLlama-1.1B, random LoRA"
        case(name, data, measure(peer, ours, asked, limit, turns))
        del base, peer, ours
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or Path(folder)
        if options.run is None:
            random_lora(pico(), "all-linear").save_pretrained(run / "adapter")
        name = "pico, trained LoRA" if options.run else "pico, random LoRA"
        for spec in options.data:
            data, asked = questions(spec, options.prompts, room)
            rest = (asked, options.max_new_tokens, options.turns)
            base = System("base", "pico", None, None).load(torch.float32, DEVICE)
            case("pico", data, measure(pico(), _asked(base), *rest))
            tuned = System("tuned", "pico", None, None, run=run).load(torch.float32, DEVICE)
            tuned = _asked(tuned)
            peer = PeftModel.from_pretrained(pico(), str(run / "adapter")).eval()
            case(name, data, measure(peer, tuned, *rest))


def _asked(model: Any) -> Any:
    """The model of `System.load` as `answer` asks it."""
    attend_by_row(model)
    return merged(model) or model


if __name__ == "__main__":
    main()
