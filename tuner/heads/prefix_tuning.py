"""Prefix tuning."""

from typing import TYPE_CHECKING, Any

from tuner.heads.base import PeftHead, at_least_one

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class PrefixTuning(PeftHead):
    """Trained keys and values in front of every row, in every layer (Li and Liang 2021).

    arXiv:2101.00190. Each layer attends to `num_virtual_tokens` learned positions that no token
    stands for. Stronger than prompt tuning at about as many times its size as there are layers;
    choose it where the base's layers must stay untouched and prompt tuning is too weak.

    Args:
        num_virtual_tokens: learned positions; they take up so many places of the context.
    """

    def __init__(self, num_virtual_tokens: int = 20) -> None:
        at_least_one(num_virtual_tokens=num_virtual_tokens)
        self.num_virtual_tokens = num_virtual_tokens
        self.virtual_tokens = num_virtual_tokens

    def impossible(self, settings: dict[str, Any]) -> str | None:
        """See the base class."""
        if settings["gradient_checkpointing"]:
            return (
                "model.head, model.gradient_checkpointing: PrefixTuning hands its positions over "
                "as a cache, which checkpointed layers cannot take; set "
                "--model.gradient_checkpointing false or choose another head"
            )
        return super().impossible(settings)

    def config(self, model: "PreTrainedModel") -> "PeftConfig":
        """See the base class."""
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=self.num_virtual_tokens)
