"""The base model and its tokenizer: a hub id, a folder, or the embedded `pico`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from os.path import exists, expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuner.errors import UserError, intact

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

PICO = Path(__file__).parent / "assets" / "pico"
ADAPTER = "adapter_model.safetensors"
# Code that comes with a model is never run, and nobody is asked whether it may be.
NO_CODE: dict[str, Any] = {"trust_remote_code": False}
Quantize = Literal["nf4", "int8"]


def locate(base: str) -> str:
    """Where the base is loaded from: the folder of `pico`, a folder as it is, or a hub id."""
    if base == "pico":
        return str(PICO)
    folder = Path(expanduser(base))  # of no such user, it stays as it is
    if exists(folder):
        return str(folder)
    if base.startswith((".", "/", "~")):
        raise UserError(f"model.base: no such folder: {base}. Allowed: a folder, a hub id, or pico")
    return base


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
    if "/" in str(wanted := getattr(config, "_attn_implementation", None)):
        raise UserError(
            f"model.base: the configuration of '{base}' asks for attention by code of the hub "
            f"({wanted}), which is not run. Remove attn_implementation from its config.json"
        )
    return config


def context_length(base: str, revision: str | None = None) -> int | None:
    """Positions that the base was made for; null where its configuration does not say.

    Raises:
        UserError: neither the folder nor the hub has it.
    """
    config = load_config(base, revision)
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
    _refuse_outside(Path(locate(base)))
    options: dict[str, Any] = {"revision": revision, "dtype": dtype or "auto", **NO_CODE}
    options["use_safetensors"] = True
    if quantize is not None:
        options["quantization_config"] = _quantization(quantize, dtype)
        options["device_map"] = {"": str(device)}
    try:
        if from_scratch:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, **NO_CODE)
        else:
            with _no_pickle():
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


def _refuse_outside(folder: Path) -> None:
    """Make sure that a base's list of files names files of its folder, which alone are hashed.

    Raises:
        UserError: it does not.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    with intact(index):
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        outside = sorted(name for name in files if Path(name).name != name)
    if outside:
        raise UserError(f"model.base: {index} names {outside[0]!r}, which is not in its folder")


@contextmanager
def _no_pickle() -> Generator[None]:
    """Refuse files that are no safetensors, although a base's list of files may name them."""
    import torch

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("this is no safetensors file")

    before, torch.load = torch.load, refuse
    try:
        yield
    finally:
        torch.load = before


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
        with _no_pickle():  # an adapter can name another file to begin with
            made: Any = PeftModel.from_pretrained(base, str(folder))  # pyright: ignore[reportArgumentType]
        return made.eval()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # peft, safetensors and torch each raise their own
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{folder}: cannot load the adapter: {reason}") from error


def refuse_pickle(folder: Path) -> None:
    """Make sure that an adapter has its weights in a safetensors file.

    Otherwise peft would load a pickle, or ask the hub for a model of the folder's name.

    Raises:
        UserError: it has none.
    """
    if not (folder / ADAPTER).is_file():
        raise UserError(f"{folder} has no {ADAPTER}; weights in other files are not loaded")


def weights_hash(base: str, revision: str | None = None) -> str | None:
    """SHA-256 over the base's safetensors files, in name order; None where there are none.

    Hub files are looked up in the local cache, so call it after loading.
    """
    folder = Path(locate(base))
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(
                snapshot_download(
                    base,
                    revision=revision,
                    allow_patterns=["*.safetensors"],
                    local_files_only=True,
                )
            )
        except Exception:  # not in the cache as a whole: no hash rather than a wrong one
            return None
    files = sorted(folder.glob("*.safetensors"))
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest() if files else None


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
