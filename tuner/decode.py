"""Decoding of many prompts at once: rows leave at their end, and others take their places."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

from tuner.active import Active
from tuner.attention import attends_by_row, columns_of
from tuner.backbone import positions
from tuner.devices import is_sharded, whole_base
from tuner.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

SHARE = 8  # rows leave when more than this part of them has ended: those left are copied then


class Decoder:
    """Continues prompts token by token, as the library's greedy loop does.

    That loop computes all rows of a batch until the last one has ended. Here a row leaves the
    batch, the cache and the mask at its end, and prompts can be taken in at any time. Everything
    else is the library's own: preparation of inputs, caches, masks, positions.

    Args:
        model: see `tuner.generate.generate`.
        stops: token ids that end a row.
        limit: new tokens a row at most; a row ends where the base's positions do, too.
        pad_id: stands on the left of short prompts, unseen.
        pick: the next tokens (B,) of rows by their numbers and logits (B, V).
        each_token: called after each token with the newest of each row at work; may raise.

    Attributes:
        places: tokens of prompt and reply that the base was made for; null where it does not say.
        said: tokens of each row so far, the one that ends it included.
        seconds: wall-clock seconds of each row: of each token's, shared out evenly over the rows.
        ended: rows that have ended; whoever has looked at one takes it away.
        joins: whether prompts can be taken in while others are continued.
    """

    def __init__(
        self,
        model: Any,
        *,
        stops: Sequence[int],
        limit: int,
        pad_id: int,
        pick: Callable[[list[int], Tensor], Tensor],
        each_token: Callable[[list[int]], None] | None,
    ) -> None:
        adapter = getattr(model, "active_peft_config", None)
        kind = getattr(adapter, "peft_type", None)
        self.model = model
        # peft's own `generate` puts a prefix into each step's inputs, as long as it runs.
        self.host = model if kind == "PREFIX_TUNING" else whole_base(model)
        self.virtual = kind in ("PROMPT_TUNING", "P_TUNING")
        room = positions(whole_base(model).config)
        self.places = None if room is None else room - getattr(adapter, "num_virtual_tokens", 0)
        self.device = next(model.parameters()).device
        self._by_row = attends_by_row(model)
        self.stops, self.limit, self.pad_id = set(stops), limit, pad_id
        self.pick, self.each_token = pick, each_token
        self.config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            max_new_tokens=limit,
            pad_token_id=pad_id,
            eos_token_id=list(stops),
        )
        # Split over processes, none may end while another one needs its part.
        self.synced = is_sharded(model)
        self.joins = not self.synced and kind != "PREFIX_TUNING"
        self.said: dict[int, list[int]] = {}
        self.seconds: dict[int, float] = defaultdict(float)
        self.ended: list[int] = []
        self._going: set[int] = set()
        self._room: dict[int, int] = {}  # tokens that a row in the batch may still get
        self._active: Active | None = None
        self._coming: dict[int, int] = {}  # rows and their padding
        self._clock = 0.0

    def __len__(self) -> int:
        """Rows that have not ended."""
        return len(self._going)

    def admit(self, prompts: Mapping[int, Sequence[int]]) -> None:
        """Compute prompts, and continue them from the next step on; to their end if none can join.

        Args:
            prompts: token ids by the row's number.
        """
        self._room |= {row: self.room_behind(prompt) for row, prompt in prompts.items()}
        if not self._going:
            self._clock = time.perf_counter()
        width = max(map(len, prompts.values()))
        ids = torch.full((len(prompts), width), self.pad_id, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for line, prompt in enumerate(prompts.values()):
            ids[line, width - len(prompt) :] = torch.tensor(prompt)
            mask[line, width - len(prompt) :] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.virtual:
            inputs = _behind_virtual(self.model, ids, mask)
        self._coming = {row: width - len(prompt) for row, prompt in prompts.items()}
        self.host.generate(**inputs, generation_config=self.config, custom_generate=self._computed)

    def _computed(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: object,
        stopping_criteria: object,
        generation_config: GenerationConfig,
        **state: Any,
    ) -> Tensor:
        """What `generate` runs for the prompts that it has prepared."""
        out = model._prefill(input_ids, generation_config, state)
        state = model._update_model_kwargs_for_generation(out, state)
        state.pop("inputs_embeds", None)  # of the prompts
        rows, padding = list(self._coming), list(self._coming.values())
        fresh = Active(rows, padding, input_ids, state, _last(out))
        self.joins = self.joins and fresh.can_join()
        if self.joins:
            fresh.reserve()
        if self._active is None:
            self._active = fresh
        else:
            self._leave()
            self._active.join(fresh)
        self._going.update(rows)
        self.said |= {row: [] for row in rows}
        if not self.joins:
            self.finish()
        return input_ids

    def room_behind(self, prompt: Sequence[int]) -> int:
        """New tokens that a row may get.

        Raises:
            UserError: its prompt is longer than what the base was made for.
        """
        if self.places is None:
            return self.limit
        if len(prompt) > self.places:
            raise UserError(
                f"a prompt takes {len(prompt)} tokens, but the model was made for {self.places} of "
                "prompt and reply; shorten it"
            )
        # The last token is not computed any further, so it needs no place.
        return min(self.limit, self.places - len(prompt) + 1)

    def finish(self) -> None:
        """Continue all rows to their end."""
        base = whole_base(self.model)
        while base._has_unfinished_sequences(not self._going, self.synced, self.device):
            self.step()
        self._active = None

    def step(self) -> None:
        """The next token of each row."""
        active, base = self._active, whole_base(self.model)
        assert active is not None
        if self._going:
            tokens = self.pick(active.rows, active.logits)
            self._record(active.rows, tokens.tolist())
            seen = [] if self.joins else [active.ids]  # all rows have a cache that knows them
            active.ids = torch.cat([*seen, tokens[:, None]], dim=1)
            ended = [row for row in active.rows if row not in self._going]
            # Nor does a row that has ended go beyond the positions that a base has.
            if len(ended) > len(active.rows) // SHARE or not all(map(self._room.get, ended)):
                self._leave()
        if not self._going and not self.synced:
            self._active = None
            return
        length = 1 if active.state["use_cache"] else None
        inputs = base.prepare_inputs_for_generation(
            active.ids, next_sequence_length=length, **active.state
        )
        if self.joins and self._by_row:
            inputs |= columns_of(active.padding)
        out = base(**inputs, return_dict=True)
        active.state = base._update_model_kwargs_for_generation(out, active.state)
        active.logits = _last(out)

    def _leave(self) -> None:
        """Let rows that have ended leave the batch, if some are left."""
        active = self._active
        assert active is not None
        left = [place for place, row in enumerate(active.rows) if row in self._going]
        if 0 < len(left) < len(active.rows) and active.can_leave():
            active.keep(left)
            if self.joins:
                active.trim()

    def _record(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        now = time.perf_counter()  # the tokens are here, so the device has done its work
        newest = {row: token for row, token in zip(rows, tokens, strict=True) if row in self._going}
        for row in rows:
            self._room[row] -= 1
        for row, token in newest.items():
            self.said[row].append(token)
            self.seconds[row] += (now - self._clock) / len(newest)
            if token in self.stops or not self._room[row]:
                self._going.remove(row)
                self.ended.append(row)
        self._clock = now
        if self.each_token is not None:
            self.each_token(list(newest.values()))


def _last(out: Any) -> Tensor:
    """Logits of the next token (B, V); a copy, so that those of the prompts are not kept alive."""
    return out.logits[:, -1].to(copy=True, dtype=torch.float32)


def _behind_virtual(model: Any, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Embeddings of rows with the trained vectors of prompt or p-tuning before their first token.

    peft puts them in front of the padding, which moves the row behind it to other positions (peft
    issue 1093). Here they stand behind it, where they stood in training.
    """
    words = whole_base(model).get_input_embeddings()(ids)  # (B, T, H)
    virtual = model.get_prompt(batch_size=len(ids)).to(words.dtype)  # (B, V, H)
    count, padding = virtual.shape[1], (1 - mask).sum(dim=1, keepdim=True)
    place = torch.arange(count + ids.shape[1], device=ids.device)[None]  # (1, V + T)
    source = torch.where(place < padding, place + count, place - padding)
    source = torch.where(place < padding + count, source, place)
    rows = torch.cat([virtual, words], dim=1)
    return {
        "inputs_embeds": rows.gather(1, source[..., None].expand_as(rows)),
        "attention_mask": (place >= padding).long(),
    }
