"""What every head has in common."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from tuner.errors import UserError
from tuner.sums import check_sums
from tuner.weights import refuse_pickle

# No postponed annotations in this room: to resolve them, the config parser would run the block
# below, and importing peft (and bitsandbytes with it) takes seconds.
if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class Head(ABC):
    """Decides what is trained of a base model, and how that is stored and loaded again."""

    folder: ClassVar[str] = "adapter"
    """Folder of a run in which the trained weights are exported."""

    keeps_base: ClassVar[bool] = True
    """Whether the export needs the base beside it, so that the base must not be random weights."""

    virtual_tokens: int = 0
    """Positions of the context that the head takes up in front of every row."""

    def impossible(self, settings: dict[str, Any]) -> str | None:
        """Why this head cannot work with settings of the model, asked before anything is loaded.

        Args:
            settings: `quantize`, `gradient_checkpointing`, `init_adapter` and `from_scratch` of
                the model, and `sharded`: whether its parameters are split over devices.

        Returns:
            A message that names both keys; null where nothing is wrong.
        """
        if settings["from_scratch"] and self.keeps_base:
            return (
                f"model.from_scratch, model.head: {type(self).__name__} needs a trained base; "
                "only --model.head Full can start from random weights"
            )
        if settings["sharded"] and self.virtual_tokens:
            return (
                f"model.head, trainer.strategy: what {type(self).__name__} trains stands beside "
                "the layers of the base, which alone are split; set --trainer.strategy ddp"
            )
        return None

    @abstractmethod
    def apply(self, model: "PreTrainedModel", start_from: Path | None = None) -> "nn.Module":
        """Make the trainable model out of a frozen base.

        Args:
            model: the base, all parameters frozen.
            start_from: exported weights of an earlier run to go on from.

        Raises:
            UserError: the head does not fit the base.
        """

    def outline(self) -> "Head":
        """A head of the same shapes whose start needs no tokenizer: `tuner plan` has none."""
        return self

    @abstractmethod
    def save(self, model: "nn.Module", folder: Path) -> None:
        """Export the trained weights in the format that other tools load."""

    def start(self, model: "nn.Module", steps: int) -> None:
        """Called when training begins; it has so many optimiser steps from first to last."""
        return

    def penalty(self, model: "nn.Module") -> "Tensor | None":
        """The head's own term in the loss of an optimiser step (scalar); null for none."""
        return None

    def stepped(self, model: "nn.Module", step: int) -> None:
        """Called after optimiser step `step` (the first is 0), gradients still at hand."""
        return

    def state(self, model: "nn.Module") -> dict[str, Any]:
        """What a checkpoint needs to know of the head beside its weights: tensors, plain values."""
        return {}

    def load_state(self, model: "nn.Module", state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        return


class PeftHead(Head):
    """A head of the peft library: a subclass states its configuration, nothing else."""

    @abstractmethod
    def config(self, model: "PreTrainedModel") -> "PeftConfig":
        """The peft configuration for this base."""

    def apply(self, model: "PreTrainedModel", start_from: Path | None = None) -> "nn.Module":
        """See the base class. Trained weights are float32 whatever the base's type."""
        from peft import get_peft_model

        from tuner.dropout import use_quick_dropout

        try:
            found = get_peft_model(model, self.config(model))
        except (ValueError, TypeError) as error:  # peft's word on a base that it cannot adapt
            raise UserError(f"model.head: {type(self).__name__}: {error}") from error
        if start_from is not None:
            _start_from(start_from, found)
        for parameter in found.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        # peft keeps names of layers in sets, whose order is another one in each process: with
        # lists, the same run writes the same adapter_config.json.
        config: Any = found.peft_config["default"]
        for key, value in vars(config).items():
            if isinstance(value, set):
                setattr(config, key, sorted(cast("set[str]", value)))
        use_quick_dropout(found)
        return found

    def save(self, model: "nn.Module", folder: Path) -> None:
        """See the base class: `PeftModel.from_pretrained(base, folder)` loads it."""
        from peft import PeftModel

        assert isinstance(model, PeftModel)
        # Asking whether the vocabulary grew would ask the hub for the base's configuration.
        model.save_pretrained(str(folder), save_embedding_layers=False)


# Settings of peft that change what the same weights compute.
SHAPING = {"r", "lora_alpha", "use_dora", "use_rslora", "oft_block_size", "projection_prng_key"}


def _start_from(folder: Path, model: Any) -> None:
    """Take the weights of an exported adapter, which must be one of the same head.

    Raises:
        UserError: another method, other settings, or weights of another base.
    """
    from peft import PeftConfig, set_peft_model_state_dict
    from peft.utils import load_peft_weights

    refuse_pickle(folder)
    check_sums(folder)
    here = model.peft_config["default"]
    where = f"model.head, model.init_adapter: the adapter in {folder}"
    try:
        there = PeftConfig.from_pretrained(str(folder))
        weights = load_peft_weights(str(folder), device="cpu")
    except Exception as error:  # peft, json and safetensors each raise their own
        raise UserError(f"{where} cannot be read: {type(error).__name__}: {error}") from error
    if there.peft_type != here.peft_type:
        raise UserError(f"{where} is {there.peft_type}, but the head {here.peft_type}")
    theirs, ours = there.to_dict(), here.to_dict()
    for key in SHAPING & ours.keys():
        if theirs.get(key) != ours[key]:
            raise UserError(f"{where} has {key} {theirs.get(key)}, but the head {ours[key]}")
    try:
        loaded = set_peft_model_state_dict(model, weights)
        lost = [*loaded.unexpected_keys]
        lost += [
            n for n, p in model.named_parameters() if p.requires_grad and n in loaded.missing_keys
        ]
    except (RuntimeError, KeyError, ValueError) as error:  # other shapes, or none of its names
        raise UserError(f"{where} is of another base: {str(error).splitlines()[0]}") from error
    # Of virtual tokens, peft puts the one weight in place and then misses it.
    if lost and not here.is_prompt_learning:
        raise UserError(f"{where} does not fit: {len(lost)} weights differ, such as {lost[0]}")


def at_least_one(**settings: int) -> None:
    """Refuse settings of a head that are below 1.

    Raises:
        UserError: one is.
    """
    for key, value in settings.items():
        if value < 1:
            raise UserError(f"model.head.{key}: {value} is not allowed; give 1 or more")


def share(**settings: float) -> None:
    """Refuse settings of a head that are no share from 0 to below 1.

    Raises:
        UserError: one is not.
    """
    for key, value in settings.items():
        if not 0 <= value < 1:
            raise UserError(f"model.head.{key}: {value} is not allowed; give 0 to below 1")


def positive(**settings: float) -> None:
    """Refuse settings of a head that are no number above 0, or too large for one.

    Raises:
        UserError: one is not.
    """
    for key, value in settings.items():
        if not 0 < value < float("inf"):
            raise UserError(f"model.head.{key}: {value} is not allowed; give more than 0")
