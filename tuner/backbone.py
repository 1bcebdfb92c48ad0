"""The base model and its tokenizer: a hub id, a folder, or the embedded `pico`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuner.errors import UserError
from tuner.sums import check_sums
from tuner.weights import locate, no_pickle, refuse_outside, refuse_pickle

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Code that comes with a model is never run, and nobody is asked whether it may be.
NO_CODE: dict[str, Any] = {"trust_remote_code": False}
Quantize = Literal["nf4", "int8"]


def load_tokenizer(base: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The base's fast tokenizer.

    Raises:
        UserError: neither the folder nor the hub has it.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(locate(base), revision=revision, **NO_CODE)
    except Exception as error:  # the clients raise their own and their HTTP library's errors
        raise _not_loaded(base, "tokenizer", error) from error
    if not tokenizer.is_fast:
        raise UserError(f"model.base: '{base}' has no fast tokenizer, which the loss mask needs")
    return tokenizer


def load_config(base: str, revision: str | None = None) -> PreTrainedConfig:
    """The base's configuration: a few kilobytes, no weights.

    Raises:
        UserError: neither the folder nor the hub has it, or it needs code of the hub.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(locate(base), revision=revision, **NO_CODE)
    except Exception as error:  # the clients raise their own and their HTTP library's errors
        raise _not_loaded(base, "configuration", error) from error
    parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    for wanted in (getattr(part, "_attn_implementation", None) for part in parts):
        if "/" in str(wanted):
            raise UserError(
                f"model.base: the configuration of '{base}' asks for attention by code of the hub "
                f"({wanted}), which is not run. Remove attn_implementation from its config.json"
            )
    return config


def context_length(base: str, revision: str | None = None) -> int | None:
    """The `positions` of a base.

    Raises:
        UserError: neither the folder nor the hub has it.
    """
    return positions(load_config(base, revision))


def positions(config: PreTrainedConfig) -> int | None:
    """Positions that a model of this configuration was made for; null where it does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def checkpoint_activations(base: PreTrainedModel) -> None:
    """Let the base compute its activations twice instead of keeping them."""
    # transformers renamed the method in 5.2x; the old name warns there.
    name = "activation_checkpointing_enable"
    getattr(base, name, base.gradient_checkpointing_enable)({"use_reentrant": False})


def load_base(
    base: str,
    revision: str | None = None,
    *,
    quantize: Quantize | None = None,
    dtype: torch.dtype | None = None,
    from_scratch: bool = False,
    device: torch.device | str = "cpu",
) -> PreTrainedModel:
    """The base model with frozen parameters, in evaluation mode.

    Weights are read from safetensors files alone: other files are pickles, which are programs.

    Args:
        base: hub id, folder or `pico`.
        revision: branch, tag or commit of a hub id.
        quantize: `nf4` (4 bit, Dettmers et al. 2023, arXiv:2305.14314, double quantisation) or
            `int8` (Dettmers et al. 2022, arXiv:2208.07339); none when null.
        dtype: type of the weights, and of the arithmetic on quantised ones; that of the
            checkpoint when null.
        from_scratch: random weights of the same architecture instead of the trained ones.
        device: where quantised weights are placed; others are loaded to the CPU.

    Raises:
        UserError: neither the folder nor the hub has it, or it needs code of the hub.
    """
    from transformers import AutoModelForCausalLM

    config = load_config(base, revision)
    options: dict[str, Any] = {"revision": revision, "dtype": dtype or "auto", **NO_CODE}
    options["use_safetensors"] = True
    if quantize is not None:
        options["quantization_config"] = _quantization(quantize, dtype)
        options["device_map"] = {"": str(device)}
    try:
        if from_scratch:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, **NO_CODE)
        else:
            _refuse_adapter(base, revision)
            refuse_outside(Path(locate(base)))
            check_sums(Path(locate(base)))  # a whole model that a run has left
            with no_pickle():
                model = AutoModelForCausalLM.from_pretrained(locate(base), **options)
    except Exception as error:  # see load_tokenizer
        raise _not_loaded(base, "model", error) from error
    layer: Any
    for layer in model.modules():
        # On a CPU, bitsandbytes 0.50 repacks a 4-bit layer at its first use in evaluation mode, and
        # gradients through it are silently wrong from then on: from the first validation.
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model.requires_grad_(False).eval()


def _refuse_adapter(base: str, revision: str | None) -> None:
    """Refuse a base with an adapter beside its weights: transformers would put it on, unasked.

    Such an adapter may also name another base, which would be loaded in place of this one.
    """
    from transformers.utils.peft_utils import find_adapter_config_file

    if find_adapter_config_file(locate(base), revision=revision):
        raise UserError(
            f"model.base: '{base}' holds an adapter (adapter_config.json), which no base may. Give "
            "the base itself; to go on from an adapter, --model.init_adapter FOLDER"
        )


def _quantization(quantize: Quantize, dtype: torch.dtype | None) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype or torch.float32,
    )


def load_adapter(base: PreTrainedModel, folder: Path) -> Any:
    """A base with the exported adapter of a run on it, in evaluation mode.

    Raises:
        UserError: the adapter's weights are missing, damaged, or no safetensors file.
    """
    import torch
    from peft import PeftModel

    refuse_pickle(folder)
    try:
        with no_pickle():  # an adapter can name another file to begin with
            made: Any = PeftModel.from_pretrained(base, str(folder))  # pyright: ignore[reportArgumentType]
        return made.eval()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # peft, safetensors and torch each raise their own
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{folder}: cannot load the adapter: {reason}") from error


def _not_loaded(base: str, what: str, error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    if "safetensors" in str(error):
        return UserError(
            f"model.base: '{base}' has no safetensors file; other files of weights are pickles, "
            "which are not loaded. Allowed: a base, or a revision of it, with model.safetensors; "
            "--model.base pico is embedded"
        )
    lines = str(error).strip().splitlines()
    return UserError(
        f"model.base: cannot load the {what} of '{base}' "
        f"({type(error).__name__}: {lines[0] if lines else ''}). Check the name and the "
        "connection, give a local folder with --model.base FOLDER, or use the embedded "
        "--model.base pico (try it: make demo)"
    )
