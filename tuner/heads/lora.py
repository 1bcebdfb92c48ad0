"""Low-rank adaptation."""

from typing import TYPE_CHECKING, Literal

from tuner.errors import UserError, nearest
from tuner.heads.base import PeftHead

# No postponed annotations in this room: to resolve them, the config parser would run the block
# below, and importing peft (and bitsandbytes with it) takes seconds.
if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class LoRA(PeftHead):
    r"""Low-rank updates of chosen linear layers (Hu et al. 2021, arXiv:2106.09685).

    A frozen weight W gets a trained update: W + (alpha / r) B A with A (r, in) and B (out, r) in
    float32; B starts at zero, so training starts from the base's own outputs. The first choice
    for most work: nearly the quality of full fine-tuning at about 1 % of the parameters.

    Args:
        r: rank of the update.
        alpha: scale; the update is multiplied by alpha / r.
        dropout: dropout on the update's input.
        target_modules: names of the layers to adapt, or `all-linear` for every linear layer but
            the output layer.
        dora: learn the magnitude apart from the direction (DoRA, arXiv:2402.09353).
        rslora: scale by alpha / sqrt(r), steadier at high ranks (arXiv:2312.03732).
        init: how A starts: `default` (Kaiming uniform) or `gaussian`.
    """

    def __init__(
        self,
        r: int = 16,
        alpha: float = 32,
        dropout: float = 0.05,
        target_modules: list[str] | Literal["all-linear"] = "all-linear",
        dora: bool = False,
        rslora: bool = False,
        init: Literal["default", "gaussian"] = "default",
    ) -> None:
        if r < 1:
            raise UserError(f"model.head.r: {r} is not allowed; give 1 or more")
        if not 0 <= dropout < 1:
            raise UserError(f"model.head.dropout: {dropout} is not allowed; give 0 to below 1")
        self.r = r
        self.alpha = alpha
        self.dropout = dropout
        self.target_modules = target_modules
        self.dora = dora
        self.rslora = rslora
        self.init = init

    def config(self, model: "PreTrainedModel") -> "PeftConfig":
        """See the base class."""
        from peft import LoraConfig

        if isinstance(self.target_modules, list):
            _refuse_unknown(self.target_modules, model)
        return LoraConfig(
            task_type="CAUSAL_LM",
            r=self.r,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType]  # a float works
            lora_dropout=self.dropout,
            target_modules=self.target_modules,
            use_dora=self.dora,
            use_rslora=self.rslora,
            init_lora_weights="gaussian" if self.init == "gaussian" else True,
        )


def _refuse_unknown(names: list[str], model: "PreTrainedModel") -> None:
    from torch import nn

    linear = {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    every = {name for name, _ in model.named_modules()}
    for name in names:
        if not any(full == name or full.endswith(f".{name}") for full in every):
            raise UserError(
                f"model.head.target_modules: the base has no layer '{name}'. "
                f"{nearest(name, linear | {'all-linear'})}"
            )
