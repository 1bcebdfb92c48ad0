"""Prompt tuning."""

from typing import TYPE_CHECKING, Literal

from tuner.errors import UserError
from tuner.heads.base import PeftHead, at_least_one

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class PromptTuning(PeftHead):
    """Trained input embeddings in front of every row (Lester et al. 2021, arXiv:2104.08691).

    The base and its layers stay as they are; `num_virtual_tokens` vectors of the embedding's size
    are all that is learned, so an adapter has a few kilobytes. Choose it to keep many assistants
    beside one base, or as the cheapest thing that may work: it learns slowly and stays behind LoRA
    on small models. It needs a learning rate some hundred times LoRA's, which
    configs/prompt_tuning.yaml sets.

    Args:
        num_virtual_tokens: trained vectors; they take up so many places of the context.
        init: what the vectors start as: the embeddings of a `text` (repeated or cut to fit), those
            of tokens drawn from the `vocabulary`, or `random` numbers, the slowest start.
        init_text: the text, for `text`.
    """

    def __init__(
        self,
        num_virtual_tokens: int = 20,
        init: Literal["text", "vocabulary", "random"] = "text",
        init_text: str = "You are a helpful customer support assistant.",
    ) -> None:
        at_least_one(num_virtual_tokens=num_virtual_tokens)
        if init == "text" and not init_text.strip():
            raise UserError("model.head.init_text: is empty; give a text, or set init vocabulary")
        self.num_virtual_tokens = num_virtual_tokens
        self.init: Literal["text", "vocabulary", "random"] = init
        self.init_text = init_text
        self.virtual_tokens = num_virtual_tokens

    def outline(self) -> "PromptTuning":
        """See the base class."""
        return PromptTuning(self.num_virtual_tokens, init="random")

    def config(self, model: "PreTrainedModel") -> "PeftConfig":
        """See the base class."""
        from peft import PromptTuningConfig

        names = {"text": "TEXT", "vocabulary": "SAMPLE_VOCAB", "random": "RANDOM"}
        text = self.init == "text"
        return PromptTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=self.num_virtual_tokens,
            prompt_tuning_init=names[self.init],
            prompt_tuning_init_text=self.init_text if text else None,
            tokenizer_name_or_path=model.name_or_path if text else None,
        )
