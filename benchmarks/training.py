"""Training beside TRL: tokens/s, peak memory and loss on the same rows, in turn.

    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/training.py [--data dolly=FILE medquad=FILE ...] [--precision fp32 bf16]

Both train one epoch on the same rows with the same base, LoRA, optimiser, precision and rows a
step, each run in a process of its own, in turn, with another seed each round. TRL runs with its
defaults, and with each setting that could be its best. The clock starts after the first steps.
Tokens are those of the rows, padding apart. The loss is that of the saved adapters on rows held
back, measured by plain transformers and peft. A data set without FILE is read from the hub.
Writes benchmarks/results/training.json; then `python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import ROOT, measured, run, write

LORA = {
    "r": 16,
    "alpha": 32,
    "dropout": 0.05,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
}
WARM_UP = 5  # steps before the clock starts
# The first is what a user of TRL gets; the others compute nothing twice and little or no padding.
PEERS: dict[str, dict[str, Any]] = {
    "trl": {},
    "trl_grouped": {
        "gradient_checkpointing": False,
        "train_sampling_strategy": "group_by_length",
    },
    # All rows fit the length, which TRL would refuse to hold them to here.
    "trl_padding_free": {
        "gradient_checkpointing": False,
        "padding_free": True,
        "max_length": None,
    },
    "trl_packed": {"gradient_checkpointing": False, "packing": True},
}
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}  # of the frozen base, on both sides
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as the command line sets it
os.environ["PYTHONPATH"] = str(ROOT / "benchmarks")  # where `fit` finds the clock


def write_rows(name: str, file: str | None, folder: Path, job: dict[str, Any]) -> dict[str, int]:
    """Write curated rows of a set that fit the length, for training and to be held back."""
    from tuner.backbone import load_tokenizer
    from tuner.data.datamodule import ConversationData
    from tuner.data.sources.bitext import Bitext
    from tuner.data.sources.dolly import Dolly
    from tuner.data.sources.medquad import MedQuAD

    source = {"dolly": Dolly, "bitext": Bitext, "medquad": MedQuAD}[name](file)
    data = ConversationData(source, max_length=job["max_length"], val_size=0.2, test_size=0)
    splits = data.prepare(load_tokenizer(job["base"])).splits
    counts = {"train": job["count"], "val": job["held_back"]}
    for split, count in counts.items():
        rows = splits[split]
        places = np.random.default_rng(0).permutation(len(rows))[:count]
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as out:
            for place in sorted(places):
                turns = [{"role": m.role, "content": m.content} for m in rows[int(place)].messages]
                out.write(json.dumps({"messages": turns}) + "\n")
    return {split: min(count, len(splits[split])) for split, count in counts.items()}


def fit(folder: Path, job: dict[str, Any], more: dict[str, str]) -> dict[str, Any]:
    """One epoch of `train.py fit` on the rows; `more` are options of its command line."""
    clock = folder / "clock.json"
    options = {
        "model.base": job["base"],
        "model.head": "LoRA",
        **{f"model.head.init_args.{key}": json.dumps(value) for key, value in LORA.items()},
        "data.source": "Conversations",
        "data.source.init_args.path": str(folder / "train.jsonl"),
        "data.max_length": str(job["max_length"]),
        "data.batch_size": str(job["batch_size"]),
        "data.val_size": "0",
        "data.test_size": "0",
        "data.cache_dir": "null",
        "optimizer.init_args.lr": str(job["lr"]),
        "lr_scheduler": "torch.optim.lr_scheduler.ConstantLR",
        "lr_scheduler.init_args.factor": "1.0",
        "trainer.precision": {"fp32": "32-true", "bf16": "bf16-mixed"}[job["precision"]],
        "trainer.max_steps": str(job.get("max_steps", -1)),
        "trainer.default_root_dir": str(folder / "logs"),
        "trainer.callbacks+": "clock.StepClock",
        "trainer.callbacks.file": str(clock),
        "samples.count": "0",
        "seed_everything": str(job["seed"]),
        "name": "bench",
        **more,
    }
    run("train.py", "fit", *(word for key in options for word in (f"--{key}", options[key])))
    newest = max((folder / "logs" / "bench").iterdir(), key=lambda made: made.stat().st_mtime)
    return json.loads(clock.read_text()) | {"adapter": str(newest / "adapter")}


def peer(folder: Path, job: dict[str, Any], best: dict[str, Any]) -> dict[str, Any]:
    """One epoch of TRL on the rows; `best` are settings of its SFTConfig."""
    adapter = folder / f"trl-{job['seed']}-{'-'.join(best)}"
    asked = {
        **job,
        "rows": str(folder / "train.jsonl"),
        "folder": str(folder / "trl"),
        "adapter": str(adapter),
        "lora": LORA,
        "best": best,
    }
    return measured("benchmarks/trl_fit.py", json.dumps(asked)) | {"adapter": str(adapter)}


def rates(found: dict[str, Any], warm_up: int = WARM_UP) -> dict[str, float]:
    """Tokens a second after the first steps, and a second of one core."""
    tokens = sum(found["tokens"][warm_up:])
    wall, cpu = (found[clock][-1] - found[clock][warm_up - 1] for clock in ("ends", "cpu"))
    return {"tokens_per_second": tokens / wall, "tokens_per_cpu_second": tokens / cpu}


def held_back_loss(base: str, adapter: str, folder: Path) -> float:
    """Nats a reply token on the rows held back, one row at a time, in plain transformers."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    total, count = 0.0, 0
    for line in (folder / "val.jsonl").open(encoding="utf-8"):
        messages = json.loads(line)["messages"]
        header, whole = (
            tokenizer.apply_chat_template(rows, add_generation_prompt=ask, return_dict=False)
            for rows, ask in ((messages[:-1], True), (messages, False))
        )
        ids = torch.tensor([whole])
        labels = ids.clone()
        labels[:, : len(header)] = -100
        with torch.inference_mode():
            loss = model(input_ids=ids, labels=labels).loss
        total += float(loss) * (len(whole) - len(header))
        count += len(whole) - len(header)
    return total / count


def case(name: str, file: str | None, precision: str, args: argparse.Namespace) -> dict[str, Any]:
    """All runs of one set and precision."""
    from tuner.weights import locate

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job: dict[str, Any] = {
            "base": locate(args.base),
            "precision": precision,
            "dtype": DTYPES[precision],
            "max_length": args.max_length,
            "batch_size": args.batch_size,
            "lr": 1e-3,
            "count": args.rows,
            "held_back": args.held_back,
        }
        rows = write_rows(name, file, folder, job)
        result: dict[str, Any] = {"set": name, "precision": precision, "rows": rows["train"]}
        result |= {"held_back": rows["val"], "systems": {}}
        for seed in range(args.repeat):
            job["seed"] = seed
            found = {"tuner": fit(folder, job, {})}
            for key, best in PEERS.items():
                if best.get("packing"):  # rows of the whole length, so fewer of them in a step
                    blocks = sum(found["tuner"]["tokens"]) / rows["train"] / args.max_length
                    fewer = max(1, round(args.batch_size * blocks))
                    best = best | {"per_device_train_batch_size": fewer}
                found[key] = peer(folder, job, best)
            for system, one in found.items():
                turn: dict[str, float] = {key: round(v, 1) for key, v in rates(one).items()}
                turn |= {"peak_mib": round(one["peak_mib"]), "tokens": sum(one["tokens"])}
                turn["loss"] = held_back_loss(job["base"], one["adapter"], folder)
                result["systems"].setdefault(system, []).append(turn)
                print(name, precision, seed, system, turn, flush=True)
    return result


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["dolly", "bitext", "medquad"])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--base", default="pico")
    parser.add_argument("--rows", type=int, default=240)
    parser.add_argument("--held_back", type=int, default=100)
    parser.add_argument("--max_length", type=int, default=1024)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    if args.rows <= WARM_UP * args.batch_size:
        parser.error(f"--rows: the clock starts after {WARM_UP} steps; give more")
    cases = list[dict[str, Any]]()
    for entry in args.data:
        name, _, file = entry.partition("=")
        for precision in args.precision:
            cases.append(case(name, file or None, precision, args))
            write("training", {"base": args.base, "batch_size": args.batch_size, "cases": cases})


if __name__ == "__main__":
    main()
