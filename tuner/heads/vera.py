"""VeRA: vector-based random matrix adaptation."""

from typing import TYPE_CHECKING, Literal

from tuner.heads.base import PeftHead, at_least_one, share
from tuner.heads.layers import resolve

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class VeRA(PeftHead):
    """Learned scales of a random low-rank update shared by all layers (Kopiczko et al. 2023).

    arXiv:2310.11454. Two frozen random matrices serve every layer; each layer learns one vector
    between them and one behind. A tenth of LoRA's parameters and less at a high rank. Choose it
    for many adapters of more strength than IA3; it needs ten times LoRA's learning rate.

    Args:
        r: rank of the random matrices.
        dropout: dropout on the update's input.
        target_modules: names of the layers to adapt, or `all-linear`.
        seed: seed of the random matrices, which are part of the export.
    """

    def __init__(
        self,
        r: int = 256,
        dropout: float = 0.0,
        target_modules: list[str] | Literal["all-linear"] = "all-linear",
        seed: int = 0,
    ) -> None:
        at_least_one(r=r)
        share(dropout=dropout)
        self.r = r
        self.dropout = dropout
        self.target_modules = target_modules
        self.seed = seed

    def config(self, model: "PreTrainedModel") -> "PeftConfig":
        """See the base class."""
        from peft import VeraConfig

        target = resolve("target_modules", self.target_modules, model)
        return VeraConfig(
            task_type="CAUSAL_LM",
            r=self.r,
            vera_dropout=self.dropout,
            target_modules=target,
            projection_prng_key=self.seed,
        )
