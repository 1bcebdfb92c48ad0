"""Attention that looks at no padding: of rows end to end, and of replies behind their prompts."""

from __future__ import annotations

import inspect
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from tuner.devices import whole_base

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

BY_ROW = "by_row"
# In half precision, PyTorch's kernel on a CPU is compiled anew for each length that it meets, and
# keeps what it compiled: multiples of this are few.
UNIT = 64
NEAR = 64  # columns of padding that cost less than a call of their own
VIRTUAL = {"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"}  # peft makes positions and masks itself


def attend_by_row(model: Any) -> bool:
    """Let a model take rows end to end, or the columns of rows that count, where it can.

    See `line_of` and `columns_of`.

    It can where attention is the only thing that looks from one token to another, goes through
    transformers' interface, and PyTorch's kernel computes it.

    Args:
        model: a causal language model of transformers, with or without a peft adapter. For every
            other use it stays as it is.

    Returns:
        Whether it can.
    """
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    if attends_by_row(model):
        return True
    base = whole_base(model)
    config = base.config.get_text_config()
    adapter = getattr(model, "active_peft_config", None)
    if (
        base.config._attn_implementation != "sdpa"
        or not base._supports_attention_backend
        or base._is_stateful
        or getattr(adapter, "peft_type", None) in VIRTUAL
        or not {"full_attention", "sliding_attention"}.issuperset(_kinds(config))
        or "position_ids" not in inspect.signature(base.forward).parameters
    ):
        return False

    def attend(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        row_lengths: list[int] | None = None,
        row_columns: list[tuple[int, int]] | None = None,
        **options: Any,
    ) -> tuple[Tensor, None]:
        """(B, heads, T, D) -> (B, T, heads, D), as the library's own attention."""
        found: list[Tensor] = []
        first = 0
        if row_columns is not None:
            # Heads that share keys are queries of one head: each key is read once.
            queries = query.reshape(len(query), key.shape[1], -1, query.shape[-1])
            for count, start in row_columns:
                rows = slice(first, first + count)
                part = F.scaled_dot_product_attention(
                    queries[rows],
                    key[rows, :, start:],
                    value[rows, :, start:],
                    None if attention_mask is None else attention_mask[rows, :, :, start:],
                    scale=options.get("scaling"),
                )
                found.append(part.flatten(1, 2)[:, None])
                first += count
            return torch.cat(found), None
        if row_lengths is None:
            return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        window = options.get("sliding_window")
        unit = _unit(query)
        for width, rows in groupby(row_lengths, lambda length: length + -length % unit):
            lengths = list(rows)
            q, k, v = (_block(one[0], first, lengths, width) for one in (query, key, value))
            out, _ = sdpa_attention_forward(module, q, k, v, _within(q, window), **options)
            found += _rows(out, lengths)
            first += sum(lengths)
        return torch.cat(found)[None], None

    AttentionInterface.register(BY_ROW, attend)
    AttentionMaskInterface.register(BY_ROW, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    base.set_attn_implementation(BY_ROW)
    return True


def attends_by_row(model: Any) -> bool:
    """Whether `attend_by_row` has been told of a model that can."""
    return whole_base(model).config._attn_implementation == BY_ROW


def line_of(lengths: Sequence[int], device: torch.device) -> dict[str, Any]:
    """What a model is told of N tokens of rows that stand end to end, beside the tokens."""
    positions = torch.cat([torch.arange(length) for length in lengths])
    return {
        "position_ids": positions[None].to(device),
        # A mask of four dimensions is passed on as it is; without one, the library would make
        # one of N x N.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
        "row_lengths": list(lengths),
    }


def columns_of(padding: Sequence[int]) -> dict[str, Any]:
    """What a model is told of the next tokens of B rows whose first columns are padding.

    Args:
        padding: columns of each row; neighbours are taken together where they have about as many.
    """
    found: list[tuple[int, int]] = []  # rows, and the first column that one of them needs
    for empty in padding:
        count, start = found[-1] if found else (0, 0)
        if found and abs(start - empty) < NEAR:
            found[-1] = (count + 1, min(start, empty))
        else:
            found.append((1, empty))
    return {"row_columns": found}


def _unit(query: Tensor) -> int:
    """What the length of a block is a multiple of."""
    return UNIT if query.is_cpu and query.dtype.itemsize < 4 else 1


def _kinds(config: Any) -> set[str]:
    return set(getattr(config, "layer_types", None) or ())


def _block(states: Tensor, first: int, lengths: Sequence[int], width: int) -> Tensor:
    """Neighbouring rows as a block, padded at their ends: (heads, N, D) -> (B, heads, T, D)."""
    rows = states[:, first : first + sum(lengths)]
    if len(set(lengths)) == 1:  # at once: a plan tries blocks of thousands
        block = rows.unflatten(1, (len(lengths), -1)).transpose(0, 1)
        return F.pad(block, (0, 0, 0, width - lengths[0]))
    parts = zip(rows.split(list(lengths), dim=1), lengths, strict=True)
    return torch.stack([F.pad(row, (0, 0, 0, width - length)) for row, length in parts])


def _rows(block: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """Its rows, or all of them end to end: (B, T, heads, D) -> (n, heads, D)."""
    if len(set(lengths)) == 1:
        return [block[:, : lengths[0]].flatten(0, 1)]
    return [row[:length] for row, length in zip(block, lengths, strict=True)]


def _within(rows: Tensor, window: int | None) -> Tensor | None:
    """The mask of rows that are longer than what their tokens look back; else none is needed."""
    length = rows.shape[2]
    if window is None or length <= window:
        return None
    places = torch.arange(length, device=rows.device)
    back = places[:, None] - places[None]
    return ((back >= 0) & (back < window))[None, None]
