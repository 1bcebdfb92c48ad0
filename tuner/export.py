"""The trained weights as other tools load them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.checkpoint import load_checkpoint
from tuner.devices import is_sharded
from tuner.markdown import escape
from tuner.plugins import settings_of
from tuner.sums import write_sums

if TYPE_CHECKING:
    from tuner.data.prompts import Prompt
    from tuner.module import ChatTuner

CARD = """\
# {head} on {shown}

Trained on what `../data_card.md` describes; `../run.json` holds versions, counts and metrics.

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
{load}
    tokenizer = AutoTokenizer.from_pretrained("{folder}")

`eval.py` compares in the type that its results.json names (`decoding`, `dtype`). Another type,
such as that of the base's file, gives other replies now and then.

Prompts are rendered by `{prompt}` (`prompt.json`).
"""
ADAPTER = """\
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained({base!r}, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, "{folder}")
"""
WHOLE = """\

    model = AutoModelForCausalLM.from_pretrained("{folder}", dtype=torch.float32)
"""


def export(module: ChatTuner, prompt: Prompt, folder: Path, checkpoint: Path) -> None:
    """Write the trained weights, the tokenizer with its template, the rendering and a card.

    The folder gets its name when it is whole. Everything but `prompt.json` is in formats that
    transformers and peft load by themselves. One process does it alone, which could not gather a
    model that is split over several: such a one is loaded anew.

    Args:
        module: the module that was trained; it holds the exported weights afterwards.
        prompt: the rendering that it was trained with.
        folder: the run's folder; the head names the folder inside it.
        checkpoint: the file with the weights to be written.
    """
    if is_sharded(module.model):
        module.model = module._device_mesh = None  # pyright: ignore[reportPrivateUsage]
        module.configure_model()
    # Mapped, so that the optimiser's state is not read beside the one in memory.
    module.load_state_dict(load_checkpoint(checkpoint, mapped=True)["state_dict"], strict=False)
    target = folder / module.head.folder
    part = folder / f".{target.name}.part"
    module.head.save(module.model, part)
    module.tokenizer.save_pretrained(str(part))
    described = json.dumps(settings_of(prompt), ensure_ascii=False, indent=2)
    (part / "prompt.json").write_text(described + "\n", encoding="utf-8")
    load = (ADAPTER if module.head.keeps_base else WHOLE).format(
        base=module.base, folder=target.name
    )
    card = CARD.format(
        head=type(module.head).__name__,
        shown=escape(module.base),
        load=load.rstrip("\n"),
        folder=target.name,
        prompt=type(prompt).__name__,
    )
    (part / "README.md").write_text(card, encoding="utf-8")
    write_sums(part)
    part.rename(target)
