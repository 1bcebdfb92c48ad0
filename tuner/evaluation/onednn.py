"""Faster matrix products of a CPU, for models that are only asked, not trained."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


def use_onednn(model: Any) -> Any:
    """Let oneDNN compute the linear layers that are float32 on a CPU; others stay as they are.

    PyTorch gives such products to MKL, which is slow on CPUs of other makers and on the few rows
    of a decoding step. The arithmetic is float32 in both. The op has no gradients.
    """
    if not torch.backends.mkldnn.is_available():
        return model
    layer: Any
    for layer in model.modules():
        # Subclasses, such as quantised layers, compute in ways of their own.
        if type(layer) is nn.Linear and layer.weight.is_cpu and layer.weight.dtype == torch.float32:
            vars(layer)["forward"] = partial(_product, layer)
    return model


def _product(layer: nn.Linear, x: Tensor) -> Tensor:
    """(..., I) -> (..., O), as `nn.Linear` has it."""
    if x.dtype != torch.float32 or torch.is_grad_enabled():
        return nn.Linear.forward(layer, x)
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")
