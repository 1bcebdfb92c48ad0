"""Replies for many prompts: batched, sorted by length, with the KV cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from tqdm import tqdm

from tuner.data.prompts import Prompt
from tuner.devices import is_sharded

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

SHORT = 64  # tokens up to which the padding of a row costs less than a batch of its own
StopReason = Literal["eos", "length", "empty"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How replies are drawn at random.

    Attributes:
        temperature: above 0.
        top_p: probability of the tokens that are drawn from, above 0, at most 1.
        seeds: one a header.
    """

    temperature: float
    top_p: float
    seeds: Sequence[int]


@dataclass(frozen=True, slots=True)
class Reply:
    """One generated reply.

    Attributes:
        text: the reply without its end-of-turn mark.
        stop_reason: `eos` the model ended its turn, `length` the limit did, `empty` it ended at
            once or wrote only white space.
        new_tokens: tokens generated, the end-of-turn mark included.
        seconds: wall-clock seconds of its batch, shared out evenly over the rows of the batch.
    """

    text: str
    stop_reason: StopReason
    new_tokens: int
    seconds: float


def stop_ids(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids that end a turn: the tokenizer's own, and the one that the rendering writes."""
    found = (prompt.end_token(tokenizer), cast("int | None", tokenizer.eos_token_id))
    return sorted({token for token in found if token is not None})


def generate(
    model: Any,
    headers: Sequence[Sequence[int]],
    *,
    tokenizer: PreTrainedTokenizerBase,
    stops: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
    progress: str | None = None,
    each_token: Callable[[Tensor], None] | None = None,
    sampling: Sampling | None = None,
) -> list[Reply]:
    """Continue each header until it ends its turn.

    Every decoding option is given here, none is taken from the model's own generation settings.
    Rows are padded on the left and masked, so a reply does not depend on its neighbours, and a row
    that has ended leaves its batch.

    Args:
        model: a causal language model with `generate`, on its device, in evaluation mode.
        headers: token ids of each prompt, up to where the reply starts.
        tokenizer: decodes the replies.
        stops: token ids that end a turn.
        max_new_tokens: tokens a reply at most.
        batch_size: rows generated together.
        progress: title of a progress bar; none when null.
        each_token: called after each token with the newest of each row that is left, (B,) int64; it
            ends the generation by raising.
        sampling: how replies are drawn; greedy when null.

    Returns:
        One reply a header, in order.
    """
    from transformers import GenerationConfig

    from tuner.decode import Evicting
    from tuner.sampling import SeededSampling

    pad_id = cast("int | None", tokenizer.pad_token_id)
    pad_id = stops[0] if pad_id is None else pad_id
    config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=max_new_tokens,
        pad_token_id=pad_id,
        eos_token_id=list(stops),
    )
    device = next(model.parameters()).device
    replies: dict[int, Reply] = {}
    bar = tqdm(total=len(headers), desc=progress, disable=progress is None, unit="reply")
    for places in _batches(list(map(len, headers)), batch_size, is_sharded(model)):
        width = max(len(headers[place]) for place in places)
        ids = torch.full((len(places), width), pad_id, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for line, place in enumerate(places):
            ids[line, width - len(headers[place]) :] = torch.tensor(headers[place])
            mask[line, width - len(headers[place]) :] = 1
        options: dict[str, Any] = {"generation_config": config}
        if each_token is not None:
            options["stopping_criteria"] = [_calling(each_token)]
        noise = None
        if sampling is not None:
            seeds = [sampling.seeds[place] for place in places]
            noise = SeededSampling(sampling.temperature, sampling.top_p, seeds)
            options["logits_processor"] = [noise]
        # Split over processes, none may end while another one needs its part.
        options["custom_generate"] = Evicting(synced=is_sharded(model), noise=noise)
        began = time.perf_counter()
        # What a split model gathers while in inference mode is of no use to a training step.
        with torch.inference_mode(not is_sharded(model)), torch.no_grad():
            out = _continued(model, ids.to(device), mask.to(device), options)
        tails = out.tolist()  # waits for the device, so the clock is right
        seconds = (time.perf_counter() - began) / len(places)
        for place, tail in zip(places, tails, strict=True):
            replies[place] = _reply(tail, stops, tokenizer, seconds)
        bar.update(len(places))
    bar.close()
    return [replies[place] for place in range(len(headers))]


def _batches(lengths: Sequence[int], size: int, sharded: bool) -> list[list[int]]:
    """Places of the headers of each batch, from short to long, few of very different lengths.

    A row is padded to the longest of its batch, in the cache of every step as well, so a few long
    rows among short ones cost more than another batch. Processes that share a model have to make
    equally many batches, whatever their rows are.
    """
    batches: list[list[int]] = []
    most = 0
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if not batches or len(batches[-1]) == size or (lengths[place] > most and not sharded):
            batches.append([])
            most = max(SHORT, 2 * lengths[place])
        batches[-1].append(place)
    return batches


def _calling(each_token: Callable[[Tensor], None]) -> Any:
    """A stopping criterion that never stops."""

    def never(ids: Tensor, _scores: object, **_: object) -> Tensor:
        each_token(ids[:, -1])
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    return never


def _continued(model: Any, ids: Tensor, mask: Tensor, options: dict[str, Any]) -> Tensor:
    """The tokens that follow each row: (B, N) int64.

    peft puts the trained embeddings of prompt and p-tuning in front of the padding, which moves
    the row behind it to other positions (peft issue 1093). Here they stand behind it, where they
    stood in training.
    """
    adapter = getattr(model, "active_peft_config", None)
    kind = getattr(adapter, "peft_type", None)
    if kind not in ("PROMPT_TUNING", "P_TUNING"):
        out = model.generate(input_ids=ids, attention_mask=mask, **options)
        return out[:, ids.shape[1] :]
    base = model.get_base_model()
    words = base.get_input_embeddings()(ids)  # (B, T, H)
    virtual = model.get_prompt(batch_size=len(ids)).to(words.dtype)  # (B, V, H)
    count, padding = virtual.shape[1], (1 - mask).sum(dim=1, keepdim=True)
    place = torch.arange(count + ids.shape[1], device=ids.device)[None]  # (1, V + T)
    source = torch.where(place < padding, place + count, place - padding)
    source = torch.where(place < padding + count, source, place)
    rows = torch.cat([virtual, words], dim=1)
    return base.generate(
        inputs_embeds=rows.gather(1, source[..., None].expand_as(rows)),
        attention_mask=(place >= padding).long(),
        **options,
    )


def _reply(
    tail: list[int], stops: Sequence[int], tokenizer: PreTrainedTokenizerBase, seconds: float
) -> Reply:
    # Padding after the end may be the stop token itself, so count up to the first stop only.
    end = next((place for place, token in enumerate(tail) if token in stops), None)
    text = str(tokenizer.decode(tail[:end], skip_special_tokens=True)).strip()
    used = len(tail) if end is None else end + 1
    reason: StopReason = "empty" if not text else "length" if end is None else "eos"
    return Reply(text, reason, used, seconds)
