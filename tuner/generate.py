"""Replies for many prompts, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from tqdm import tqdm

from tuner.data.prompts import Prompt
from tuner.devices import is_sharded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tuner.decode import Decoder

SHORT = 64  # tokens up to which padding costs less than a group of its own
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
        seconds: wall-clock seconds: those of each token, shared out evenly over the rows at work.
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
    each_token: Callable[[list[int]], None] | None = None,
    each_reply: Callable[[int, Reply], None] | None = None,
    sampling: Sampling | None = None,
) -> list[Reply]:
    """Continue each header until it ends its turn.

    Every decoding option is given here, none is taken from the model's own generation settings.
    Rows are padded on the left and masked, so a reply does not depend on its neighbours. A row
    that has ended leaves its batch, and the next prompts take the places of those that left.

    Args:
        model: a causal language model with `generate`, on its device, in evaluation mode.
        headers: token ids of each prompt, up to where the reply starts.
        tokenizer: decodes the replies.
        stops: token ids that end a turn.
        max_new_tokens: tokens a reply at most; it is cut where the base's context ends, too.
        batch_size: rows generated together at most.
        progress: title of a progress bar; none when null.
        each_token: called after each token with the newest of each row at work; it ends the
            generation by raising.
        each_reply: called when a reply has ended, with its header's place.
        sampling: how replies are drawn; greedy when null.

    Returns:
        One reply a header, in order.

    Raises:
        UserError: a header is longer than what the base was made for.
    """
    from tuner.decode import Decoder
    from tuner.sampling import SeededSampling

    pad_id = cast("int | None", tokenizer.pad_token_id)
    noise = None
    if sampling is not None:
        noise = SeededSampling(sampling.temperature, sampling.top_p, sampling.seeds)
    decoder = Decoder(
        model,
        stops=stops,
        limit=max_new_tokens,
        pad_id=stops[0] if pad_id is None else pad_id,
        pick=noise or (lambda _rows, logits: logits.argmax(dim=-1)),
        each_token=each_token,
    )
    for header in headers:
        decoder.room_behind(header)  # refused before others are answered
    waiting = sorted(range(len(headers)), key=lambda place: -len(headers[place]))
    coming: dict[int, Sequence[int]] = {}
    replies: dict[int, Reply] = {}
    bar = tqdm(total=len(headers), desc=progress, disable=progress is None, unit="reply")
    # What a split model gathers while in inference mode is of no use to a training step.
    with bar, torch.inference_mode(not is_sharded(model)), torch.no_grad():
        while waiting or coming or decoder:
            coming = coming or _next(waiting, headers, batch_size, decoder)
            if coming and len(decoder) + len(coming) <= batch_size:
                decoder.admit(coming)
                coming = {}
            else:
                decoder.step()
            while decoder.ended:
                place = decoder.ended.pop()
                said, seconds = decoder.said[place], decoder.seconds[place]
                replies[place] = _reply(said, stops, tokenizer, seconds)
                if each_reply is not None:
                    each_reply(place, replies[place])
            bar.update(len(replies) - bar.n)
    return [replies[place] for place in range(len(headers))]


def _next(
    waiting: list[int], headers: Sequence[Sequence[int]], batch_size: int, decoder: Decoder
) -> dict[int, Sequence[int]]:
    """Take the shortest headers that wait, but few of very different lengths.

    A header is padded to the longest that is computed with it, and where none can join later, in
    the cache of every step as well. Processes that share a model have to make equally many
    groups, whatever their headers are.
    """
    found: dict[int, Sequence[int]] = {}
    shortest = len(headers[waiting[-1]]) if waiting else 0
    widest = max(SHORT, shortest + shortest // 4 if decoder.joins else 2 * shortest)
    most = -(-batch_size // 4) if decoder.joins else batch_size
    while waiting and len(found) < most:
        if len(headers[waiting[-1]]) > widest and not decoder.synced:
            break
        place = waiting.pop()
        found[place] = headers[place]
    return found


def _reply(
    said: list[int], stops: Sequence[int], tokenizer: PreTrainedTokenizerBase, seconds: float
) -> Reply:
    ended = said[-1] in stops
    text = str(tokenizer.decode(said[:-1] if ended else said, skip_special_tokens=True)).strip()
    return Reply(text, "empty" if not text else "eos" if ended else "length", len(said), seconds)
