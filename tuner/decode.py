"""The library's greedy loop, which goes on without the rows that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache

if TYPE_CHECKING:
    from torch import Tensor

    from tuner.sampling import SeededSampling


class Evicting:
    """Decodes a batch step by step; to be given to `generate` as `custom_generate`.

    The library computes all rows until the last one has ended. Here a row leaves the batch, the
    cache and the mask at its end; the others keep their padding and positions. Everything else is
    the library's own: preparation of inputs, caches, positions, stopping.

    Args:
        synced: other processes need this one's part of the model until all have ended.
        noise: draws replies at random; it has to know which rows are left.
    """

    def __init__(self, *, synced: bool, noise: SeededSampling | None) -> None:
        self.synced = synced
        self.noise = noise

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **state: Any,
    ) -> Tensor:
        """Continue each row to its end: (B, T) int64 -> (B, T + N), padded behind the end."""
        pad = generation_config.pad_token_id
        count, device = len(input_ids), input_ids.device
        rows = torch.arange(count, device=device)  # places of those that are left
        steps: list[Tensor] = []
        ids, going = input_ids, torch.ones_like(rows, dtype=torch.bool)
        ended = False
        out = model._prefill(ids, generation_config, state)
        with model._optimize_model_for_decode():
            while True:
                state = model._update_model_kwargs_for_generation(out, state)
                if not ended:
                    # A copy, so that all positions' logits of the prompts are not kept alive.
                    logits = out.logits[:, -1].to(copy=True, dtype=torch.float32, device=device)
                    del out
                    tokens = logits_processor(ids, logits).argmax(dim=-1)
                    steps.append(tokens.new_full((count,), pad).index_copy(0, rows, tokens))
                    ids = torch.cat([ids, tokens[:, None]], dim=1)
                    going &= ~stopping_criteria(ids, None)
                    left = going.nonzero()[:, 0]
                    ended = len(left) == 0
                    if 0 < len(left) < len(rows) and _select(state, left, len(rows)):
                        rows, ids, going = rows[left], ids[left], going[left]
                        if self.noise is not None:
                            self.noise.keep(left.tolist())
                if not model._has_unfinished_sequences(ended, self.synced, device):
                    return torch.cat([input_ids, torch.stack(steps, dim=1)], dim=1)
                length = 1 if state["use_cache"] else None
                inputs = model.prepare_inputs_for_generation(
                    ids, next_sequence_length=length, **state
                )
                out = model(**inputs, return_dict=True)


def _select(state: dict[str, Any], left: Tensor, count: int) -> bool:
    """Keep some rows of everything that the loop carries on; False where it is of another kind."""
    cache = state.get("past_key_values")
    tensors = {key: value for key, value in state.items() if torch.is_tensor(value)}
    if not isinstance(cache, Cache) or any(
        value.dim() > 3 or len(value) not in (1, count) for value in tensors.values()
    ):
        return False
    chosen: Any = left
    cache.reorder_cache(chosen)  # of any rows; works for states of linear attention, too
    for key, value in tensors.items():
        if len(value) == count:
            state[key] = value[left]
    return True
