"""What every head has in common."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn
    from transformers import PreTrainedModel


class Head(ABC):
    """Decides what is trained of a base model, and how that is stored and loaded again."""

    folder: ClassVar[str] = "adapter"
    """Folder of a run in which the trained weights are exported."""

    keeps_base: ClassVar[bool] = True
    """Whether the export needs the base beside it, so that the base must not be random weights."""

    @abstractmethod
    def apply(self, model: "PreTrainedModel", start_from: Path | None = None) -> "nn.Module":
        """Make the trainable model out of a frozen base.

        Args:
            model: the base, all parameters frozen.
            start_from: exported weights of an earlier run to go on from.

        Raises:
            UserError: the head does not fit the base.
        """

    @abstractmethod
    def save(self, model: "nn.Module", folder: Path) -> None:
        """Export the trained weights in the format that other tools load."""


class PeftHead(Head):
    """A head of the peft library: a subclass states its configuration, nothing else."""

    @abstractmethod
    def config(self, model: "PreTrainedModel") -> "PeftConfig":
        """The peft configuration for this base."""

    def apply(self, model: "PreTrainedModel", start_from: Path | None = None) -> "nn.Module":
        """See the base class. Adapter weights are float32 whatever the base's type."""
        from peft import PeftModel, get_peft_model

        if start_from is not None:
            return PeftModel.from_pretrained(model, str(start_from), is_trainable=True)
        return get_peft_model(model, self.config(model))

    def save(self, model: "nn.Module", folder: Path) -> None:
        """See the base class: `PeftModel.from_pretrained(base, folder)` loads it."""
        from peft import PeftModel

        assert isinstance(model, PeftModel)
        # Asking whether the vocabulary grew would ask the hub for the base's configuration.
        model.save_pretrained(str(folder), save_embedding_layers=False)
