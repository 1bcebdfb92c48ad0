"""Low-rank adaptation."""

from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuner.errors import UserError
from tuner.heads.base import PeftHead, at_least_one, positive, share
from tuner.heads.layers import is_called, linear_layers, resolve

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn
    from transformers import PreTrainedModel

CHANGES_BASE = ("pissa", "olora")  # these take the adapter's start out of the base's weights


class LoRA(PeftHead):
    r"""Low-rank updates of chosen linear layers (Hu et al. 2021, arXiv:2106.09685).

    A frozen weight W gets a trained update: W + (alpha / r) B A with A (r, in) and B (out, r) in
    float32; B starts at zero, so training starts from the base's own outputs. The first choice
    for most work: nearly the quality of full fine-tuning at about 1 % of the parameters. With
    `model.quantize: nf4` it is QLoRA (arXiv:2305.14314).

    Args:
        r: rank of the update.
        alpha: scale; the update is multiplied by alpha / r.
        dropout: dropout on the update's input.
        target_modules: names of the layers to adapt, or `all-linear` for every linear layer but
            the output layer. A Llama's names, such as `q_proj`, stand for the layers that do the
            same work in other architectures (`tuner.heads.layers`).
        layers_to_transform: numbers of the blocks to adapt, the first is 0; all when null.
        dora: learn the magnitude apart from the direction (DoRA, arXiv:2402.09353).
        rslora: scale by alpha / sqrt(r), steadier at high ranks (arXiv:2312.03732).
        init: how A and B start: `default` (A Kaiming uniform, B zero), `gaussian` (A normal, B
            zero), `orthogonal` (both, of a random basis, their product zero), `pissa` (the largest
            singular vectors of W, arXiv:2404.02948) or `olora` (of its QR decomposition,
            arXiv:2406.01775). The last two move weight from W into the update and learn faster
            at first; the export is an ordinary adapter of twice the rank for the untouched base.
    """

    def __init__(
        self,
        r: int = 16,
        alpha: float = 32,
        dropout: float = 0.05,
        target_modules: list[str] | Literal["all-linear"] = "all-linear",
        layers_to_transform: list[int] | None = None,
        dora: bool = False,
        rslora: bool = False,
        init: Literal["default", "gaussian", "orthogonal", "pissa", "olora"] = "default",
    ) -> None:
        at_least_one(r=r)
        positive(alpha=alpha)
        numbers = layers_to_transform
        if numbers is not None and (not numbers or len(set(numbers)) < len(numbers)):
            raise UserError(
                f"model.head.layers_to_transform: {numbers} is not allowed; give each block once, "
                "or null for all"
            )
        share(dropout=dropout)
        if init in CHANGES_BASE and (dora or rslora):
            raise UserError(
                f"model.head.init, model.head.dora, model.head.rslora: {init} cannot be exported "
                "with DoRA or rsLoRA; choose one of them"
            )
        if init == "orthogonal" and r % 2:
            raise UserError(f"model.head.r, model.head.init: orthogonal needs an even r, not {r}")
        self.r = r
        self.alpha = alpha
        self.dropout = dropout
        self.target_modules = target_modules
        self.layers_to_transform = layers_to_transform
        self.dora = dora
        self.rslora = rslora
        self.init = init
        self._start: dict[str, Any] = {}

    def impossible(self, settings: dict[str, Any]) -> str | None:
        """See the base class."""
        for key in ("quantize", "init_adapter"):
            if self.init in CHANGES_BASE and settings[key]:
                return (
                    f"model.head.init, model.{key}: {self.init} takes the adapter's start out of "
                    f"the base's own weights; set --model.head.init default or --model.{key} null"
                )
        if self.init == "orthogonal" and settings["quantize"]:
            return (
                "model.head.init, model.quantize: peft makes an orthogonal start on dense weights "
                "only; set --model.head.init default or --model.quantize null"
            )
        if self.dora and settings["quantize"] == "int8":
            return (
                "model.head.dora, model.quantize: DoRA needs the norm of weights, which int8 does "
                "not give; set --model.quantize nf4 or --model.head.dora false"
            )
        return super().impossible(settings)

    def config(self, model: "PreTrainedModel") -> "PeftConfig":
        """See the base class."""
        from peft import LoraConfig

        target = resolve("target_modules", self.target_modules, model)
        if self.layers_to_transform is not None and target == "all-linear":
            target = linear_layers(model)  # peft takes no numbers of blocks with that word
        if self.init in CHANGES_BASE:
            _refuse_start(self.init, self.r, target, model)
        blocks = int(model.config.get_text_config().num_hidden_layers)
        for number in self.layers_to_transform or ():
            if not 0 <= number < blocks:
                raise UserError(
                    f"model.head.layers_to_transform: the base has no block {number}; "
                    f"its blocks are 0 to {blocks - 1}"
                )
        ways: dict[str, Any] = {"default": True}
        return LoraConfig(
            task_type="CAUSAL_LM",
            r=self.r,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType]  # a float works
            lora_dropout=self.dropout,
            target_modules=target,
            layers_to_transform=self.layers_to_transform,
            use_dora=self.dora,
            use_rslora=self.rslora,
            init_lora_weights=ways.get(self.init, self.init),
        )

    def apply(self, model: "PreTrainedModel", start_from: Path | None = None) -> "nn.Module":
        """See the base class."""
        found = super().apply(model, start_from)
        if self.init in CHANGES_BASE:
            from peft import get_peft_model_state_dict

            state = get_peft_model_state_dict(found, save_embedding_layers=False)
            self._start = {name: weight.detach().clone() for name, weight in state.items()}
        return found

    def save(self, model: "nn.Module", folder: Path) -> None:
        """See the base class."""
        from peft import PeftModel, get_peft_model_state_dict
        from safetensors.torch import save_file
        from torch import cat

        if not self._start:
            super().save(model, folder)
            return
        assert isinstance(model, PeftModel)
        # The base lost B0 A0; [B, -B0] [A; A0], of twice the rank, gives it back.
        weights: dict[str, Any] = {}
        for name, weight in get_peft_model_state_dict(model, save_embedding_layers=False).items():
            rows = "lora_A" in name
            start = self._start[name] if rows else -self._start[name]
            weights[name] = cat([weight, start], dim=0 if rows else 1).contiguous()
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config: Any = copy(model.peft_config["default"])
        config.r, config.lora_alpha, config.init_lora_weights = 2 * self.r, 2 * self.alpha, True
        config.inference_mode = True
        config.save_pretrained(str(folder))


def _refuse_start(init: str, r: int, target: list[str] | str, model: "PreTrainedModel") -> None:
    """Refuse layers whose weights cannot give the adapter its start, or not get it back."""
    from torch import nn

    names = linear_layers(model) if isinstance(target, str) else target
    key, output = "model.head.init, model.head.target_modules", model.get_output_embeddings()
    for name, layer in model.named_modules():
        if not is_called(name, names):
            continue
        weight: Any = layer.weight
        kind = type(layer).__name__
        if kind == "Embedding" or (kind == "Conv1D" and init == "olora"):
            raise UserError(f"{key}: {init} takes linear layers, and {name} is a {kind}")
        if layer is output and weight is model.get_input_embeddings().weight:
            raise UserError(
                f"{key}: {name} shares its weights with the embeddings, which {init} would change"
            )
        assert isinstance(weight, nn.Parameter)
        if min(weight.shape) < r:
            raise UserError(
                f"model.head.r, model.head.init: {init} takes up to {min(weight.shape)} directions "
                f"out of {name}, not {r}; set --model.head.r {min(weight.shape)} or less"
            )
