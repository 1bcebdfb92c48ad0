"""Names of layers stand for the layers that do the same work in other architectures."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tuner.errors import UserError
from tuner.heads import Head
from tuner.heads.layers import resolve
from tuner.heads.lora import LoRA
from tuner.plugins import subclasses

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 96,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0,
}  # fmt: skip
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
INNER = ["gate_proj", "up_proj", "down_proj"]
# The layers of a block that attention and what follows it have, and how many a block has.
OWN: dict[str, tuple[set[str], set[str]]] = {
    "llama": (set(ATTENTION), set(INNER)),
    "mistral": (set(ATTENTION), set(INNER)),
    "qwen2": (set(ATTENTION), set(INNER)),
    "qwen3": (set(ATTENTION), set(INNER)),
    "gemma2": (set(ATTENTION), set(INNER)),
    "phi": ({"q_proj", "k_proj", "v_proj", "dense"}, {"fc1", "fc2"}),
    "phi3": ({"qkv_proj", "o_proj"}, {"gate_up_proj", "down_proj"}),
    "gpt2": ({"c_attn", "attn.c_proj"}, {"c_fc", "mlp.c_proj"}),
    "gpt_neox": ({"query_key_value", "dense"}, {"dense_h_to_4h", "dense_4h_to_h"}),
    "falcon": ({"query_key_value", "dense"}, {"dense_h_to_4h", "dense_4h_to_h"}),
    "starcoder2": (set(ATTENTION), {"c_fc", "mlp.c_proj"}),
    "opt": ({"q_proj", "k_proj", "v_proj", "out_proj"}, {"fc1", "fc2"}),
    "gptj": ({"q_proj", "k_proj", "v_proj", "out_proj"}, {"fc_in", "fc_out"}),
    "mpt": ({"Wqkv", "out_proj"}, {"up_proj", "down_proj"}),
}


def made(kind: str) -> Any:
    """A model of an architecture in shape, without content."""
    names = {"mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": 96}}
    names["gptj"] = {"n_embd": 32, "n_head": 4, "n_layer": 2, "rotary_dim": 4, "vocab_size": 96}
    config = AutoConfig.for_model(kind, **names.get(kind, SMALL))
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config).requires_grad_(False)


def names_of(kind: str) -> list[str]:
    """Those of a Llama's names that the architecture has a layer for."""
    return ATTENTION + (INNER if {"gate_proj", "gate_up_proj"} & OWN[kind][1] else INNER[1:])


@pytest.mark.parametrize("kind", OWN)
def test_a_recipe_adapts_the_same_work_in_every_architecture(kind: str) -> None:
    model = made(kind)
    attention, inner = OWN[kind]
    assert set(resolve("target_modules", ATTENTION, model)) == attention
    with torch.device("meta"):
        adapted: Any = LoRA(target_modules=names_of(kind)).apply(model)
    found = {n.split(".lora_A")[0] for n, _ in adapted.named_parameters() if "lora_A" in n}
    assert len(found) == 2 * len(attention | inner)  # every one in both blocks, and nothing else
    assert all(any(full.endswith(f".{own}") for own in attention | inner) for full in found)


def test_it_is_told_which_layer_stands_for_which(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert resolve("target_modules", ["q_proj", "v_proj"], made("gpt2")) == ["c_attn"]
        assert resolve("target_modules", ["q_proj", "v_proj"], made("qwen2")) == [
            "q_proj",
            "v_proj",
        ]
    (message,) = [record.message for record in caplog.records if "target_modules" in record.message]
    assert "in a GPT2LMHeadModel, q_proj is c_attn, v_proj is c_attn" in message


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("mamba", "q_proj", "no layer 'q_proj', and none in a MambaForCausalLM is known to do its"),
        ("gpt2", "gate_proj", "no layer 'gate_proj', and none in a GPT2LMHeadModel"),
        ("gpt2", "c_atn", "no layer 'c_atn'. Did you mean 'c_attn'"),
        ("llama", "c_attn", "no layer 'c_attn'. Allowed: all-linear, down_proj"),
    ],
)
def test_what_cannot_be_resolved_is_refused(kind: str, name: str, says: str) -> None:
    model = made(kind)
    with pytest.raises(UserError, match=r"model\.head\.target_modules: the base has") as error:
        LoRA(target_modules=[name]).config(model)
    assert says in str(error.value)


@pytest.mark.parametrize("head", ["LoRA", "VeRA", "OFT", "AdaLoRA", "IA3"])
def test_every_head_that_names_layers_resolves_them(head: str) -> None:
    settings: dict[str, Any] = {"target_modules": ["q_proj", "o_proj"]}
    classes: dict[str, Any] = subclasses(Head)
    one = classes[head](**settings, **({"block_size": 8} if head == "OFT" else {}))
    assert one.config(made("phi3")).target_modules == {"qkv_proj", "o_proj"}
