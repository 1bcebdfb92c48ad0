"""(IA)3: learned scales."""

from typing import TYPE_CHECKING

from tuner.heads.base import PeftHead
from tuner.heads.layers import resolve

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class IA3(PeftHead):
    """Learned scales of keys, values and inner activations (Liu et al. 2022, arXiv:2205.05638).

    One factor a channel, starting at 1: about a twentieth of a rank-16 LoRA's parameters. Choose
    it for few examples or very many adapters; it needs a learning rate some ten times LoRA's.

    Args:
        target_modules: layers whose output is scaled; what peft knows of the architecture when
            null (k_proj, v_proj and down_proj of a Llama).
        feedforward_modules: those of them whose input is scaled instead (down_proj).
    """

    def __init__(
        self,
        target_modules: list[str] | None = None,
        feedforward_modules: list[str] | None = None,
    ) -> None:
        self.target_modules = target_modules
        self.feedforward_modules = feedforward_modules

    def config(self, model: "PreTrainedModel") -> "PeftConfig":
        """See the base class."""
        from peft import IA3Config

        target, inner = self.target_modules, self.feedforward_modules
        return IA3Config(
            task_type="CAUSAL_LM",
            target_modules=target and resolve("target_modules", target, model),
            feedforward_modules=inner and resolve("feedforward_modules", inner, model),
        )
