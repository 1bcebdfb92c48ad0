"""An optimiser step of the real model without its weights: what it would hold and compute."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.cli import instantiate_class
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from tuner.attention import attend_by_row
from tuner.backbone import NO_CODE, Quantize, checkpoint_activations, load_config
from tuner.data.batching import Batch
from tuner.errors import UserError
from tuner.fused import fuse
from tuner.loss import summed_loss
from tuner.module import BASE_DTYPES, ChatTuner
from tuner.tracking import Tracker

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from tuner.heads import Head

PARTS = ("weights", "adapter", "gradients", "optimiser", "activations", "logits")
"""Frozen weights, trained ones, their gradients, the optimiser's state, what is kept between the
layers, and everything from the output layer's result to the loss."""

PAGED = 100_000  # elements from which bitsandbytes keeps a paged state in host memory


@dataclass(frozen=True)
class Footprint:
    """What one optimiser step takes.

    Attributes:
        parts: bytes of each of `PARTS` at the moment when most is held.
        flops: floating point operations of matrix products and attention of one micro-batch.
        moved: bytes that its other ops read and write.
        events: what it makes and frees, in order; see `tuner.tracking.Tracker`.
    """

    parts: dict[str, int]
    flops: int
    moved: int
    events: list[tuple[int, int]]

    @property
    def peak(self) -> int:
        """Bytes that are held at most."""
        return sum(self.parts.values())


class Rehearsal:
    """A `ChatTuner` on tensors that have shapes and no content.

    The base comes from its configuration alone. Base, head, checkpointing, mixed precision, loss
    and optimiser are the real ones, so what is counted is what training does, op by op; only
    quantised layers are stood in for. Every position but a row's first carries loss, which is the
    most that can be.

    Args:
        module: what `fit` would train; it is left as it is.
        precision: the trainer's.
        accumulate: whether an optimiser step has several micro-batches.
        gpu: count as PyTorch's allocator and optimisers do on a GPU.

    Raises:
        UserError: the base's configuration does not load, the head does not fit it, or the
            optimiser cannot be had without numbers.
    """

    def __init__(
        self, module: ChatTuner, precision: str, *, accumulate: bool = False, gpu: bool = False
    ) -> None:
        self._head = module.head.outline()
        self._dtype = BASE_DTYPES[precision]
        self._mixed = precision.endswith("mixed")
        self._accumulate = accumulate
        self._tracker = Tracker(granule=512 if gpu else 64)
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._model, sizes = _outline(module, self._head, self._dtype)
        with self._fake, self._tracker:
            self._fill(sizes)
            self._head.start(self._model, steps=1000)
            self._optimizer = self._make_optimizer(module.optimizer, gpu)
        base = self._model.get_base_model() if hasattr(self._model, "peft_config") else self._model
        base.get_output_embeddings().register_forward_pre_hook(self._enter_output)

    def step(self, rows: int, length: int) -> Footprint:
        """What a step with micro-batches of so many rows of so many tokens takes."""
        tracker = self._tracker
        with self._fake, tracker:
            ids = torch.zeros(rows * length, dtype=torch.int64)
            batch = Batch(
                input_ids=ids,
                labels=ids,
                lengths=[length] * rows,
                step_targets=1,
                tokens=len(ids),
                rows=[0] * rows,
            )
            tracker.start()
            tracker.part = "activations"
            with torch.autocast("cpu", self._dtype, enabled=self._mixed):
                total, targets = summed_loss(self._model, batch)
                if (penalty := self._head.penalty(self._model)) is not None:
                    total = total + penalty * targets
            if not self._accumulate:
                self._optimizer.zero_grad()  # Lightning forgets the last step's here, no sooner
            total.backward()
            flops, moved = tracker.flops, tracker.moved
            del total, targets, penalty
            self._update(self._optimizer)
        parts = {part: tracker.peak[part] for part in PARTS}
        return Footprint(parts, flops, moved, tracker.events)

    def _fill(self, sizes: dict[Tensor, int]) -> None:
        """Put tensors of the same shapes in place of the outline's parameters and buffers."""
        filled: dict[Tensor, Tensor] = {}  # some belong to several modules
        for module in self._model.modules():
            for store in (module._parameters, module._buffers):
                for name, old in store.items():
                    if old is None:
                        continue
                    if old not in filled:
                        part = "adapter" if old.requires_grad else "weights"
                        with self._tracker.counting_as(part):
                            new = torch.empty(old.shape, dtype=old.dtype)
                        if isinstance(old, nn.Parameter):
                            new = nn.Parameter(new, requires_grad=old.requires_grad)
                        if old in sizes:
                            self._tracker.assign(new, part, sizes[old])
                        filled[old] = new
                    store[name] = filled[old]

    def _make_optimizer(self, chosen: dict[str, Any], gpu: bool) -> Any:
        """The optimiser as it is from the second step on, when its state is there."""
        trained = [p for p in self._model.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.register_post_accumulate_grad_hook(
                lambda p: self._tracker.assign(p.grad, "gradients")
            )
        with self._tracker.counting_as("optimiser"):
            optimizer = instantiate_class(trained, chosen)
        bitsandbytes = type(optimizer).__module__.startswith("bitsandbytes")
        if bitsandbytes:
            optimizer.update_step = lambda *_: None  # its kernels take no tensors without content
        for group in optimizer.param_groups:
            if gpu and group.get("foreach", 0) is None and not group.get("fused"):
                group["foreach"] = True  # PyTorch's choice on a GPU: all weights in one go
        with self._tracker.counting_as("gradients"):
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
        try:
            self._update(optimizer)
        except Exception as error:
            name = chosen["class_path"]
            raise UserError(
                f"optimizer: the state of {name} cannot be told without training "
                f"({str(error).splitlines()[0]}); plan with --optimizer AdamW"
            ) from error
        if bitsandbytes and gpu and optimizer.is_paged:
            for state in (s for all_of in optimizer.state.values() for s in all_of.values()):
                if isinstance(state, torch.Tensor) and state.numel() >= PAGED:
                    self._tracker.assign(state, "optimiser", 0)
        return optimizer

    def _update(self, optimizer: Any) -> None:
        with self._tracker.counting_as("optimiser"):
            optimizer.step()
            self._head.stepped(self._model, 0)

    def _enter_output(self, _layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        """From here to its own gradient, what is made belongs to the logits."""
        self._tracker.part = "logits"

        def leave(_gradient: Tensor) -> None:
            self._tracker.part = "activations"

        args[0].register_hook(leave)


def _outline(module: ChatTuner, head: Head, dtype: torch.dtype) -> tuple[Any, dict[Tensor, int]]:
    """The trainable model on the meta device, and the sizes of its quantised weights."""
    from transformers import AutoModelForCausalLM

    config = load_config(module.base, module.revision)
    sizes: dict[Tensor, int] = {}
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, dtype=dtype, **NO_CODE)
        base.requires_grad_(False)
        if module.quantize:
            sizes = _stand_in(base, module.quantize, dtype)
        if module.gradient_checkpointing:
            checkpoint_activations(base)
        model = head.apply(base, Path(module.init_adapter) if module.init_adapter else None)
    if not module.compile_blocks:
        attend_by_row(model)
        fuse(model)
    return model.train(), sizes


def _stand_in(base: PreTrainedModel, quantize: Quantize, dtype: torch.dtype) -> dict[Tensor, int]:
    """Let the layers that bitsandbytes would replace compute as its own do."""
    from transformers.quantizers.base import get_keys_to_not_convert

    dense = get_keys_to_not_convert(base)
    sizes: dict[Tensor, int] = {}
    for name, layer in base.named_modules():
        if isinstance(layer, nn.Linear) and name not in dense:
            computes = partial(_quantised, layer, dtype, quantize == "int8")
            layer.forward = cast("Any", computes)
            rows, columns = layer.weight.shape
            int8 = rows * columns + 4 * rows  # a scale of 32 bits a row
            sizes[layer.weight] = nf4_bytes(rows * columns) if quantize == "nf4" else int8
    return sizes


def nf4_bytes(count: int) -> int:
    """Bytes of so many NF4 weights with double quantisation (arXiv:2305.14314, section 3).

    4 bits each; a scale of 8 bits for every 64, and one of 32 bits for every 256 of those; two
    tables of 16 and 256 values and an offset in 32 bits.
    """
    blocks = -(-count // 64)
    return -(-count // 2) + blocks + 4 * -(-blocks // 256) + 4 * (16 + 256 + 1)


def _quantised(layer: nn.Linear, dtype: torch.dtype, keeps_input: bool, x: Tensor) -> Tensor:
    out = _Dequantised.apply(x.to(dtype), layer.weight, layer.bias, keeps_input)
    return cast("Tensor", out).to(x.dtype)


class _Dequantised(torch.autograd.Function):
    """A product with a weight that is unpacked for it, and once more for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, keeps: bool) -> Tensor:
        ctx.kept = x if keeps else None  # MatMul8bitLt and MatMul8bitFp of bitsandbytes do
        ctx.shape, ctx.dtype = weight.shape, x.dtype
        return F.linear(x, x.new_empty(weight.shape), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        gradient = grads[0].to(ctx.dtype)
        return gradient @ gradient.new_empty(ctx.shape), None, None, None
