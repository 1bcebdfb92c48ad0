"""Rows that are continued together: one leaves at its end, others come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from transformers import Cache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from torch import Tensor


ROOM = 64  # columns that a cache has in store


class Growing(DynamicLayer):
    """The cache of a layer with columns in store: the library's copies all of it for each token.

    Args:
        layers: whose rows it takes.
        width: filled columns; rows that have fewer get empty ones in front.
    """

    def __init__(self, layers: Sequence[Any], width: int) -> None:
        super().__init__()
        self.lazy_initialization(layers[0].keys, layers[0].values)
        keys = _stored([layer.keys for layer in layers], width)
        self.hold(keys, _stored([layer.values for layer in layers], width), width)

    def hold(self, keys: Tensor, values: Tensor, width: int) -> None:
        """Take these (B, heads, T + store, D), of which the first columns are filled."""
        self.stores = (keys, values)
        self.keys, self.values = (store[:, :, :width] for store in self.stores)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Fill one more column: (B, heads, 1, D) -> (B, heads, T + 1, D)."""
        width = self.get_seq_length()
        keys, values = self.stores
        if width == keys.shape[2]:
            keys, values = _stored([keys], width), _stored([values], width)
        keys[:, :, width : width + 1] = key_states
        values[:, :, width : width + 1] = value_states
        self.hold(keys, values, width + 1)
        return self.keys, self.values  # pyright: ignore[reportReturnType]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Go on with some of the rows."""
        keys, values = self.stores
        self.hold(keys[beam_idx], values[beam_idx], self.get_seq_length())

    def trim(self, columns: int) -> None:
        """Take away so many columns on the left."""
        width = self.get_seq_length() - columns
        keys, values = self.stores
        self.hold(keys[:, :, columns:], values[:, :, columns:], width)


def _stored(parts: Sequence[Tensor], width: int) -> Tensor:
    """Rows of all parts (B, heads, T, D), behind each other, with columns in store."""
    shape = list(parts[0].shape)
    shape[0], shape[2] = sum(map(len, parts)), width + ROOM
    store = parts[0].new_empty(shape)
    first = 0
    for part in parts:
        rows = store[first : first + len(part)]
        rows[:, :, : width - part.shape[2]] = 0  # masked, but has to be a number
        rows[:, :, width - part.shape[2] : width] = part
        first += len(part)
    return store


@dataclass
class Active:
    """Rows that are continued together, and what the library carries on from token to token.

    Attributes:
        rows: their numbers.
        padding: columns on the left of each that are none of its tokens.
        ids: (B, T) tokens up to the last one.
        state: inputs of the next step: cache, mask and so on.
        logits: (B, V) float32 of the next token.
    """

    rows: list[int]
    padding: list[int]
    ids: Tensor
    state: dict[str, Any]
    logits: Tensor

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Those inputs that are tensors."""
        return {key: value for key, value in self.state.items() if torch.is_tensor(value)}

    @property
    def width(self) -> int:
        """Columns up to the next token."""
        return self.state["past_key_values"].get_seq_length() + 1

    def can_join(self) -> bool:
        """Whether all that is carried on can be moved along the columns.

        Neither states of linear attention nor windows can.
        """
        cache = self.state.get("past_key_values")
        return (
            isinstance(cache, Cache)
            and all(type(layer) is DynamicLayer for layer in cache.layers)
            and all(value.shape == (len(self.rows), self.width) for value in self.tensors.values())
        )

    def reserve(self) -> None:
        """Let the cache have columns in store; it can join."""
        cache = self.state["past_key_values"]
        cache.layers = [Growing([layer], self.width - 1) for layer in cache.layers]

    def can_leave(self) -> bool:
        """Whether all that is carried on has a row for each row."""
        count = len(self.rows)
        return isinstance(self.state.get("past_key_values"), Cache) and all(
            value.dim() <= 3 and len(value) in (1, count) for value in self.tensors.values()
        )

    def keep(self, left: Sequence[int]) -> None:
        """Go on with some of the rows: their places, in order."""
        chosen: Any = torch.tensor(left, device=self.ids.device)
        self.state["past_key_values"].reorder_cache(chosen)  # of linear attention, too
        for key, value in self.tensors.items():
            if len(value) == len(self.rows):
                self.state[key] = value[chosen]
        self.ids, self.logits = self.ids[chosen], self.logits[chosen]
        self.rows = [self.rows[place] for place in left]
        self.padding = [self.padding[place] for place in left]

    def trim(self) -> None:
        """Take away the columns that have become empty, and the mask where nothing is padding."""
        if unused := min(self.padding):
            for key, value in self.tensors.items():
                self.state[key] = value[:, unused:]
            for layer in self.state["past_key_values"].layers:
                layer.trim(unused)
            self.padding = [count - unused for count in self.padding]
        if not any(self.padding):
            self.state["attention_mask"] = None

    def join(self, other: Active) -> None:
        """Take in other rows, up to their next tokens; both can join."""
        width = max(self.width, other.width)
        for one in (self, other):
            missing = width - one.width
            # The library leaves the mask out where nothing is padding.
            if one.state.get("attention_mask") is None:
                shape = (len(one.rows), one.width)
                one.state["attention_mask"] = one.ids.new_ones(shape)
            for key, value in one.tensors.items():
                one.state[key] = F.pad(value, (missing, 0))
            one.padding = [count + missing for count in one.padding]
        for key, value in other.tensors.items():
            self.state[key] = torch.cat([self.state[key], value])
        own, new = self.state["past_key_values"], other.state["past_key_values"]
        pairs = zip(own.layers, new.layers, strict=True)
        own.layers = [Growing(pair, width - 1) for pair in pairs]
        self.logits = torch.cat([self.logits, other.logits])
        self.rows += other.rows
        self.padding += other.padding
