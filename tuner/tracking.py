"""What a piece of PyTorch code holds in memory and how much it computes, told op by op."""

from __future__ import annotations

import weakref
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

aten = torch.ops.aten
# The counter of PyTorch knows the attention of GPUs only.
FLOPS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(
        q.shape, k.shape, v.shape
    ),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(
            grad.shape, q.shape, k.shape, v.shape
        )
    ),
}


class Tracker(TorchDispatchMode):
    """Counts the bytes of all live tensors by the part that they belong to, and keeps the peak.

    Works on real tensors and on those of a `FakeTensorMode` that was entered before, which have
    shapes and no content. A storage counts from the op that makes it until nothing refers to it,
    so views and tensors kept for the backward pass are counted once and as long as they live.
    Memory that a kernel takes and gives back inside one op is not seen.

    On tensors without content, a boolean mask picks every position that it could, and a number
    that is read out of one is 1.

    Args:
        granule: bytes that an allocation is rounded up to.

    Attributes:
        part: what new tensors are counted as.
        live: bytes by part.
        peak: a copy of `live` when it was largest.
        flops: floating point operations of matrix products and attention (a product and its sum
            are two).
        moved: bytes read and written by all other ops.
        events: what was made and freed, in order: a storage's number, and its size or -1.
    """

    def __init__(self, granule: int = 1) -> None:
        super().__init__()
        self.granule = granule
        self.part = "activations"
        self.live: Counter[str] = Counter()
        self._known: dict[int, tuple[str, int]] = {}
        self.start()

    def start(self) -> None:
        """Forget peak and work, keep what is live."""
        self.peak = self.live.copy()
        self.flops = self.moved = 0
        self.events: list[tuple[int, int]] = []

    @contextmanager
    def counting_as(self, part: str) -> Generator[None]:
        """Count tensors that are made inside as `part`."""
        before, self.part = self.part, part
        try:
            yield
        finally:
            self.part = before

    def assign(self, tensor: torch.Tensor, part: str, size: int | None = None) -> None:
        """Count a tensor as `part`, with `size` bytes in place of its own if given."""
        storage = tensor.untyped_storage()
        key = _place(tensor)
        if key in self._known:
            old, known = self._known[key]
            self.live[old] -= known
        else:
            weakref.finalize(storage, self._freed, key).atexit = False
        size = storage.nbytes() if size is None else size
        size = -(-size // self.granule) * self.granule
        if key not in self._known:
            self.events.append((key, size))
        self._known[key] = part, size
        self.live[part] += size
        if self.live.total() > self.peak.total():
            self.peak = self.live.copy()

    def _freed(self, key: int) -> None:
        part, size = self._known.pop(key)
        self.events.append((key, -1))
        self.live[part] -= size

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an op and count what it made."""
        kwargs = kwargs or {}
        out = _unknown(func, args)
        if out is None:
            out = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        for tensor in made:
            if _place(tensor) not in self._known:
                self.assign(tensor, self.part)
        if count := FLOPS.get(func._overloadpacket):
            self.flops += count(*args, **kwargs, out_val=out)
        elif not func.is_view:
            read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            self.moved += sum(tensor.nbytes for tensor in read + made)
        return out


def _place(tensor: torch.Tensor) -> int:
    """A number that a storage has to itself as long as it lives."""
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]  # no public one


def _unknown(func: Any, args: tuple[Any, ...]) -> Any:
    """The result of an op whose shape or value hangs on content that is not there; else null."""
    into: Any = args[0] if args else None
    if not isinstance(into, FakeTensor):
        return None
    if func is aten._local_scalar_dense.default:
        return 1
    if func not in (aten.index.Tensor, aten.index_put.default):
        return None
    indices = args[1]
    if len(indices) != 1 or indices[0].dtype != torch.bool:
        return None
    if func is aten.index_put.default:
        return into  # of real tensors, the gradient is written into the zeros that it is given
    mask = indices[0]
    return into.new_empty((mask.numel(), *into.shape[mask.ndim :]))
