"""Turn a finished run of the recipe into the embedded model: the last part of its recipe.

    python -m tuner.assets.pico.publish logs/pico/version_0

Writes the weights as bfloat16, the figures of the run (`training.json`) and the model card made of
them; nothing on the card is typed by hand.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tuner.runs import read_record
from tuner.weights import PICO

KEPT = (
    "versions",
    "hardware",
    "commit",
    "total_params",
    "training_seconds",
    "steps",
    "examples_seen",
    "tokens_seen",
    "best",
)
CARD = PICO / "card.md.in"  # a template for str.format


def card(record: dict[str, Any], data: dict[str, Any], config: dict[str, Any]) -> str:
    """The model card.

    Args:
        record: the run's run.json.
        data: the run's data_card.json.
        config: the model's config.json.
    """
    return CARD.read_text(encoding="utf-8").format(
        parameters=record["total_params"],
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        kv=config["num_key_value_heads"],
        context=config["max_position_embeddings"],
        pieces=config["vocab_size"],
        rows=data["splits"]["train"]["rows"],
        tokens=data["splits"]["train"]["tokens"],
        seen=record["tokens_seen"],
        steps=record["steps"],
        hours=record["training_seconds"] / 3600,
        cpus=record["hardware"]["cpus"],
        precision=record["hardware"]["precision"],
        loss=record["best"]["val_loss"],
        perplexity=record["best"]["val_perplexity"],
    )


def main() -> None:
    """Write weights, figures and card beside this file."""
    import torch
    from transformers import AutoModelForCausalLM

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    record = read_record(run)
    model = AutoModelForCausalLM.from_pretrained(str(run / "model"), dtype=torch.bfloat16)
    model.save_pretrained(str(PICO))
    data = json.loads((run / "data_card.json").read_text(encoding="utf-8"))
    config = json.loads((PICO / "config.json").read_text(encoding="utf-8"))
    figures = {key: record[key] for key in KEPT} | {"splits": data["splits"]}
    (PICO / "training.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (PICO / "README.md").write_text(card(record, data, config), encoding="utf-8")


if __name__ == "__main__":
    main()
