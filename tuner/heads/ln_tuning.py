"""Tuning of the normalisation layers."""

from typing import TYPE_CHECKING

from tuner.heads.base import PeftHead

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class LNTuning(PeftHead):
    """Trains the weights of the normalisation layers (Zhao et al. 2023, arXiv:2312.11420).

    In the spirit of BitFit (arXiv:2106.10199), for bases that have no biases: nothing is added and
    nothing gets slower, a few vectors of the base move. Choose it to shift tone or form with some
    hundred rows. It has no settings.
    """

    def config(self, model: "PreTrainedModel") -> "PeftConfig":
        """See the base class."""
        from peft import LNTuningConfig

        # LayerNorm, RMSNorm and what bases call their own; peft knows some of them by name.
        kinds = {name: type(layer).__name__ for name, layer in model.named_modules()}
        norms = {name.rsplit(".", 1)[-1] for name, kind in kinds.items() if kind.endswith("Norm")}
        return LNTuningConfig(task_type="CAUSAL_LM", target_modules=sorted(norms))
