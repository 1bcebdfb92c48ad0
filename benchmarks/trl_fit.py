"""The peer of `fit`: TRL's SFTTrainer on prepared rows, once, in a process of its own.

    python benchmarks/trl_fit.py '{"base": ..., "rows": ..., ...}'

Prints the same JSON as `clock.StepClock` writes. Called by `training.py`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """The end of each step, and the tokens that TRL has counted by then."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.cpu: list[float] = []
        self.seen: list[int] = []
        self.began = 0.0
        self.trainer: Any = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter() - self.began)
        self.cpu.append(time.process_time())
        self.seen.append(int(self.trainer._total_train_tokens))


def main(job: dict[str, Any]) -> None:
    """Train and print."""
    with Path(job["rows"]).open(encoding="utf-8") as lines:
        rows = [json.loads(line)["messages"] for line in lines]
    data = Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows])
    lora = job["lora"]
    settings: dict[str, Any] = {
        "per_device_train_batch_size": job["batch_size"],
        "max_length": job["max_length"],
    }
    config = SFTConfig(
        output_dir=job["folder"],
        num_train_epochs=1,
        max_steps=job.get("max_steps", -1),
        learning_rate=job["lr"],
        lr_scheduler_type="constant",
        bf16=job["precision"] == "bf16",
        use_cpu=not torch.cuda.is_available(),  # without it TRL refuses bf16 on a CPU
        seed=job["seed"],
        save_strategy="no",
        report_to="tensorboard",
        model_init_kwargs={"dtype": job["dtype"]},
        **settings | job["best"],
    )
    trainer = SFTTrainer(
        model=job["base"],
        args=config,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(job["base"]),
        peft_config=LoraConfig(
            r=lora["r"],
            lora_alpha=lora["alpha"],
            lora_dropout=lora["dropout"],
            target_modules=lora["target_modules"],
            task_type="CAUSAL_LM",
        ),
    )
    clock = Clock()
    clock.trainer = trainer
    trainer.add_callback(clock)
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**20
    trainer.save_model(job["adapter"])
    tokens = [now - before for now, before in zip(clock.seen, [0, *clock.seen], strict=False)]
    times = {"ends": clock.ends, "cpu": clock.cpu}
    print(json.dumps(times | {"tokens": tokens, "peak_mib": peak}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
