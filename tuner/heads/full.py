"""Full fine-tuning."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tuner.heads.base import Head

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Full(Head):
    """Trains every parameter of the base, in float32.

    The yardstick for the other heads, and the way to pretrain a small model from scratch. Needs
    16 bytes a parameter with AdamW (weight, gradient, two moments) before any activation. The
    export is a whole model, in `model/` instead of `adapter/`.
    """

    folder: ClassVar[str] = "model"
    keeps_base: ClassVar[bool] = False

    def impossible(self, settings: dict[str, Any]) -> str | None:
        """See the base class."""
        if settings["quantize"]:
            return (
                "model.head, model.quantize: Full trains the base's own weights, which cannot be "
                "quantised; set --model.quantize null or --model.head LoRA"
            )
        if settings["init_adapter"]:
            return (
                "model.head, model.init_adapter: Full has no adapter to start from; name the "
                f"exported model as the base: --model.base {settings['init_adapter']}"
            )
        return None

    def apply(self, model: "PreTrainedModel", start_from: Path | None = None) -> "nn.Module":
        """See the base class."""
        return model.float().requires_grad_(True)

    def save(self, model: "nn.Module", folder: Path) -> None:
        """See the base class: `AutoModelForCausalLM.from_pretrained(folder)` loads it."""
        from transformers import PreTrainedModel

        assert isinstance(model, PreTrainedModel)
        model.save_pretrained(str(folder))
