"""AdaLoRA: a budget of rank, given to the layers that need it."""

from typing import TYPE_CHECKING, Any, Literal

from tuner.errors import UserError
from tuner.heads.base import PeftHead, at_least_one, positive, share
from tuner.heads.layers import resolve

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor, nn
    from transformers import PreTrainedModel

LONG = 1_000_000  # steps, until the length of the training is known


class AdaLoRA(PeftHead):
    """LoRA with singular values that are pruned as training shows (Zhang et al. 2023).

    arXiv:2303.10512. The update of a layer is P diag(e) Q; every layer starts with rank `init_r`,
    and the least important values are set to zero until `target_r` a layer is left on average.
    Choose it to find out which layers matter, or for the best of a small budget. A term of the loss
    keeps P and Q orthogonal.

    Args:
        init_r: rank at the start.
        target_r: average rank at the end.
        alpha: scale of the update.
        dropout: dropout on the update's input.
        target_modules: names of the layers to adapt, or `all-linear`.
        warm_up: share of the training before the pruning begins.
        settle: share of the training after it has ended.
        every: steps between two prunings.
        orthogonality: weight of that term.
    """

    def __init__(
        self,
        init_r: int = 12,
        target_r: int = 8,
        alpha: float = 32,
        dropout: float = 0.0,
        target_modules: list[str] | Literal["all-linear"] = "all-linear",
        warm_up: float = 0.1,
        settle: float = 0.3,
        every: int = 10,
        orthogonality: float = 0.5,
    ) -> None:
        at_least_one(init_r=init_r, target_r=target_r, every=every)
        positive(alpha=alpha)
        if not 0 <= orthogonality < float("inf"):
            raise UserError(
                f"model.head.orthogonality: {orthogonality} is not allowed; give 0 or more"
            )
        share(dropout=dropout, warm_up=warm_up, settle=settle)
        if target_r >= init_r:
            raise UserError(
                f"model.head.target_r, model.head.init_r: {target_r} is not below {init_r}, so "
                "nothing would be pruned; use --model.head LoRA, or lower target_r"
            )
        if warm_up + settle >= 1:
            raise UserError(
                f"model.head.warm_up, model.head.settle: {warm_up} and {settle} leave no part of "
                "the training for the pruning; make them smaller"
            )
        self.init_r = init_r
        self.target_r = target_r
        self.alpha = alpha
        self.dropout = dropout
        self.target_modules = target_modules
        self.warm_up = warm_up
        self.settle = settle
        self.every = every
        self.orthogonality = orthogonality

    def impossible(self, settings: dict[str, Any]) -> str | None:
        """See the base class."""
        if settings["init_adapter"]:
            return (
                "model.head, model.init_adapter: an exported AdaLoRA adapter is pruned, and its "
                "ranks cannot be shared out anew; start with --model.head LoRA or from the base"
            )
        if settings["sharded"]:
            return (
                "model.head, trainer.strategy: AdaLoRA weighs whole matrices against each other, "
                "which are split over devices; set --trainer.strategy ddp or --model.head LoRA"
            )
        return super().impossible(settings)

    def config(self, model: "PreTrainedModel") -> "PeftConfig":
        """See the base class."""
        from peft import AdaLoraConfig

        target = resolve("target_modules", self.target_modules, model)
        return AdaLoraConfig(
            task_type="CAUSAL_LM",
            init_r=self.init_r,
            target_r=self.target_r,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType]  # a float works
            lora_dropout=self.dropout,
            target_modules=target,
            deltaT=self.every,
            orth_reg_weight=self.orthogonality,
            total_step=LONG,
        )

    def start(self, model: "nn.Module", steps: int) -> None:
        """See the base class."""
        config = _adapter(model).peft_config["default"]
        config.total_step = steps
        config.tinit = int(self.warm_up * steps)
        config.tfinal = int(self.settle * steps)

    def penalty(self, model: "nn.Module") -> "Tensor":
        """The mean distance of P and Q from orthogonal matrices (Frobenius norm), weighted."""
        from torch import eye, stack

        sides = [
            weight @ weight.T if "lora_A" in name else weight.T @ weight
            for name, weight in model.named_parameters()
            if "lora_A" in name or "lora_B" in name
        ]
        distances = [(side - eye(len(side), device=side.device)).norm() for side in sides]
        return self.orthogonality * stack(distances).mean()

    def stepped(self, model: "nn.Module", step: int) -> None:
        """See the base class: peft weighs the values and prunes."""
        _adapter(model).update_and_allocate(step)

    def state(self, model: "nn.Module") -> dict[str, Any]:
        """See the base class: smoothed importances, and what has been pruned."""
        tuner = _adapter(model)
        allocator = tuner.rankallocator
        return {
            "exp_avg_ipt": dict(allocator.exp_avg_ipt),
            "exp_avg_unc": dict(allocator.exp_avg_unc),
            "rank_pattern": dict(tuner.peft_config["default"].rank_pattern or {}),
        }

    def load_state(self, model: "nn.Module", state: dict[str, Any]) -> None:
        """See the base class."""
        tuner = _adapter(model)
        for name in ("exp_avg_ipt", "exp_avg_unc"):
            setattr(tuner.rankallocator, name, dict(state[name]))
        tuner.rankallocator.ipt = dict(state["exp_avg_ipt"])  # peft looks for the names alone
        tuner.peft_config["default"].rank_pattern = dict(state["rank_pattern"]) or None


def _adapter(model: Any) -> Any:
    """The part of peft's model that prunes."""
    return model.base_model
