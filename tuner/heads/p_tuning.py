"""P-tuning."""

from typing import TYPE_CHECKING, Any

from tuner.heads.base import PeftHead, at_least_one

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class PTuning(PeftHead):
    """Input embeddings in front of every row, made by a small network (Liu et al. 2021).

    arXiv:2103.10385. Like prompt tuning, but the trained vectors pass through a perceptron while
    they are learned, which makes them depend on each other and the search steadier. The export
    holds the resulting vectors alone. Choose it where prompt tuning does not get going.

    Args:
        num_virtual_tokens: vectors; they take up so many places of the context.
        encoder_hidden_size: width of the perceptron.
    """

    def __init__(self, num_virtual_tokens: int = 20, encoder_hidden_size: int = 128) -> None:
        at_least_one(num_virtual_tokens=num_virtual_tokens, encoder_hidden_size=encoder_hidden_size)
        self.num_virtual_tokens = num_virtual_tokens
        self.encoder_hidden_size = encoder_hidden_size
        self.virtual_tokens = num_virtual_tokens

    def impossible(self, settings: dict[str, Any]) -> str | None:
        """See the base class."""
        if settings["init_adapter"]:
            return (
                "model.head, model.init_adapter: an exported p-tuning adapter holds the vectors, "
                "not the encoder that made them; go on with --ckpt_path instead"
            )
        return super().impossible(settings)

    def config(self, model: "PreTrainedModel") -> "PeftConfig":
        """See the base class."""
        from peft import PromptEncoderConfig

        return PromptEncoderConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=self.num_virtual_tokens,
            encoder_hidden_size=self.encoder_hidden_size,
        )
