"""Names of a base's layers, and what other architectures call those of a Llama."""

from typing import TYPE_CHECKING

from tuner.errors import UserError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FUSED = ("qkv_proj", "query_key_value", "Wqkv", "c_attn")
"""One layer that computes queries, keys and values: of Phi-3, GPT-NeoX and Falcon, MPT, GPT-2."""

ELSEWHERE: dict[str, tuple[str, ...]] = {
    "q_proj": FUSED,
    "k_proj": FUSED,
    "v_proj": FUSED,
    "o_proj": ("attn.c_proj", "dense", "out_proj"),
    "gate_proj": ("gate_up_proj",),
    "up_proj": ("gate_up_proj", "fc1", "c_fc", "fc_in", "dense_h_to_4h"),
    "down_proj": ("mlp.c_proj", "fc2", "fc_out", "dense_4h_to_h"),
}
"""The layers that do the work of a Llama's in other architectures, by the end of their names; of
several the first that a base has is the one."""


def resolve(key: str, names: list[str] | str, model: "PreTrainedModel") -> list[str] | str:
    """The base's own names of layers.

    A name that the base has stands for itself. A Llama's name that it has not stands for the layer
    that does the same work there, so that a recipe fits other bases; it is told which. A layer
    that computes several at once is named once, and adapted as a whole.

    Args:
        key: the head's setting, for messages.
        names: what the recipe says; a word such as `all-linear` stays what it is.
        model: the base.

    Raises:
        UserError: the base has no such layer, with the nearest name that it has.
    """
    if isinstance(names, str):
        return names
    every = [full for full, module in model.named_modules() if not any(module.children())]
    kind, found = type(model).__name__, dict[str, str]()
    for name in names:
        known = (name, *ELSEWHERE.get(name, ()))
        there = (one for one in known if any(is_called(full, (one,)) for full in every))
        if (own := next(there, None)) is None:
            also = f", and none in a {kind} is known to do its work" if name in ELSEWHERE else ""
            raise UserError(
                f"model.head.{key}: the base has no layer '{name}'{also}. "
                f"{nearest(name, {*linear_layers(model), 'all-linear'})}"
            )
        found[name] = own
    if others := [f"{name} is {own}" for name, own in found.items() if name != own]:
        from lightning.fabric.utilities import rank_zero_info  # knows the rank without a trainer

        rank_zero_info(f"model.head.{key}: in a {kind}, {', '.join(others)}")
    return list(dict.fromkeys(found.values()))


def is_called(full: str, names: "list[str] | tuple[str, ...]") -> bool:
    """Whether a layer's full name is one of the names, or ends with one."""
    return any(full == name or full.endswith(f".{name}") for name in names)


def linear_layers(model: "PreTrainedModel") -> list[str]:
    """The names of the base's linear layers but for the output layer, such as `q_proj`."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    linear = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)]
    output = model.get_output_embeddings()
    return sorted({name.rsplit(".", 1)[-1] for name, m in linear if m is not output})
