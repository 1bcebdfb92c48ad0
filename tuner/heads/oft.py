"""Orthogonal fine-tuning."""

import math
from typing import TYPE_CHECKING, Literal

from tuner.errors import UserError
from tuner.heads.base import PeftHead, at_least_one, share
from tuner.heads.layers import is_called, linear_layers, resolve

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class OFT(PeftHead):
    """Rotates the inputs of layers, block by block (Qiu et al. 2023, arXiv:2306.07280).

    Each layer learns an orthogonal matrix made of blocks (by the Cayley transform, its inverse
    taken as a short Neumann series), which keeps the angles between neurons. Choose it where LoRA
    forgets too much of what the base could do.

    Args:
        block_size: width of a block; it has to divide the layers' input sizes.
        dropout: share of the blocks that are left out in a step.
        target_modules: names of the layers to adapt, or `all-linear`.
    """

    def __init__(
        self,
        block_size: int = 32,
        dropout: float = 0.0,
        target_modules: list[str] | Literal["all-linear"] = "all-linear",
    ) -> None:
        at_least_one(block_size=block_size)
        share(dropout=dropout)
        self.block_size = block_size
        self.dropout = dropout
        self.target_modules = target_modules

    def config(self, model: "PreTrainedModel") -> "PeftConfig":
        """See the base class."""
        from peft import OFTConfig

        target = resolve("target_modules", self.target_modules, model)
        names = linear_layers(model) if isinstance(target, str) else target
        for name, layer in model.named_modules():
            width = int(getattr(layer, "in_features", 0))
            if is_called(name, names) and width % self.block_size:
                raise UserError(
                    f"model.head.block_size: {self.block_size} does not divide the {width} inputs "
                    f"of {name}; give {math.gcd(width, self.block_size)}, for instance"
                )
        return OFTConfig(
            task_type="CAUSAL_LM",
            r=0,
            oft_block_size=self.block_size,
            module_dropout=self.dropout,
            target_modules=target,
            use_cayley_neumann=True,
        )
