"""An adapter folded into the weights that it adapts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.backbone import load_adapter
from tuner.errors import UserError, intact

if TYPE_CHECKING:
    from pathlib import Path

INSTEAD = "so there is no merged model; `tuner export --form adapter` writes it for peft"


def refuse_virtual(adapter: Path) -> None:
    """Refuse an adapter that trained no weights of its base, before anything is loaded.

    Args:
        adapter: folder of the exported adapter.

    Raises:
        UserError: it is one of virtual tokens.
    """
    from peft import PeftConfig

    with intact(adapter):
        config: Any = PeftConfig.from_pretrained(str(adapter))
    if config.is_prompt_learning:
        raise UserError(
            f"--form merged: what {config.peft_type.value} trains are virtual tokens, which are no "
            f"weights of the base, {INSTEAD}"
        )


def is_quantised(model: Any) -> bool:
    """Whether the weights have 4 or 8 bits: what is added to them would be rounded once more."""
    return any(getattr(model, f"is_loaded_in_{bits}bit", False) for bits in (4, 8))


def fold(model: Any) -> Any:
    """Fold the adapter of a model into its weights, which takes no second copy of them.

    Args:
        model: a base that is not quantised, with an adapter of peft; not usable afterwards.

    Returns:
        The base's own class with the changed weights.

    Raises:
        UserError: the adapter has no merged form.
    """
    tuner: Any = getattr(model, "base_model", None)
    if not hasattr(model, "peft_config") or not hasattr(tuner, "merge_and_unload"):
        raise UserError(f"--form merged: nothing was added to weights of the base, {INSTEAD}")
    kind = model.peft_config["default"].peft_type.value
    if tied := tuner._get_tied_target_modules(tuner.model):
        raise UserError(
            f"--form merged: {kind} adapts {', '.join(tied)}, whose weights are those of another "
            f"layer, which would change as well, {INSTEAD}"
        )
    try:
        return model.merge_and_unload()
    except NotImplementedError as error:
        raise UserError(f"--form merged: peft cannot merge {kind}, {INSTEAD}") from error


def dense(model: Any, adapter: Path) -> Any:
    """Put an adapter on the float32 weights that the quantised ones of its base stand for.

    It was trained against these, rounding and all, and not against the weights of the file.

    Args:
        model: a quantised base with an adapter of peft; not usable afterwards.
        adapter: folder of the same adapter.
    """
    import torch

    base = model.unload().dequantize(torch.float32)
    return load_adapter(base, adapter)
