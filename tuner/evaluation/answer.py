"""What one system says to the test set, and how it behaves beside it."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_info

from tuner.attention import attend_by_row
from tuner.backbone import context_length, load_tokenizer
from tuner.data.encode import encode_header
from tuner.data.example import SLICES, Example, Message, digest
from tuner.evaluation.baselines import BASELINES, with_shots
from tuner.evaluation.forgetting import text_nll
from tuner.evaluation.journal import Journal
from tuner.evaluation.latency import measure_latency, merged
from tuner.evaluation.likelihood import encode_replies, row_nats
from tuner.evaluation.predictions import Prediction
from tuner.generate import Reply, Sampling, generate, stop_ids
from tuner.out_of_memory import with_fewer_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tuner.evaluation.systems import System
    from tuner.evaluation.testset import TestSet

NO_LIMIT = 2**31


@dataclass(frozen=True)
class Decoding:
    """How replies are generated: the same for every system.

    Attributes:
        max_new_tokens: tokens a reply at most.
        batch_size: prompts answered together.
        temperature: 0 for the likeliest token at each place.
        top_p: probability of the tokens that are drawn from.
        seed: of the draws, together with the example's id.
        dtype: type of weights and arithmetic.
    """

    max_new_tokens: int
    batch_size: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    dtype: str = "float32"


@dataclass(frozen=True)
class Answers:
    """One system on a test set.

    Attributes:
        rows: its replies.
        latency: waiting times by form (`base`, `adapter`, `merged`); empty when not measured.
        general: nats and tokens of each held-out text; empty without a model.
    """

    rows: list[Prediction]
    latency: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    general: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])


def answer(
    system: System,
    test_set: TestSet,
    decoding: Decoding,
    folder: Path,
    *,
    latency_prompts: int = 0,
    texts: Sequence[str] = (),
) -> Answers:
    """Let one system answer every prompt of the test set.

    An adapter that can be is folded into the weights first: nothing else is as fast to ask.
    A first batch is answered and thrown away, so that no row pays for the warm-up.
    What is found out is written into a journal as it comes. What stands there is not done again.

    Args:
        system: who answers.
        test_set: the prompts.
        decoding: how replies are generated.
        folder: of the comparison, for the journal.
        latency_prompts: prompts that are answered alone once more, for the waiting time.
        texts: held-out general text whose likelihood is measured.

    Raises:
        OSError: the journal cannot be written.
    """
    if system.baseline:
        said = BASELINES[system.name](test_set.train, test_set.examples)
        given = [Reply(text, "eos" if text.strip() else "empty", 0, 0.0) for text in said]
        return Answers(_rows(system, test_set, given))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = system.load(getattr(torch, decoding.dtype), device)
    attend_by_row(model)
    tokenizer = load_tokenizer(system.base, system.revision)
    prompt = test_set.prompt
    asked = [with_shots(e.prompt, system.shots) for e in test_set.examples]
    headers = [encode_header(messages, prompt, tokenizer) for messages in asked]
    options: dict[str, Any] = {"tokenizer": tokenizer, "stops": stop_ids(prompt, tokenizer)}
    size, limit = decoding.batch_size, decoding.max_new_tokens
    references = [example.reply for example in test_set.examples]
    key = [_identity(system, decoding), headers, references, list(texts), latency_prompts]
    journal = Journal(folder, [*key, options["stops"], device.type])
    some = headers[:latency_prompts]

    def waits(form: str) -> None:
        if some:
            latency[form] = journal.once(
                f"latency {form}",
                lambda: measure_latency(model, some, max_new_tokens=limit, **options),
            )

    latency: dict[str, dict[str, float]] = {}
    waits("adapter" if hasattr(model, "peft_config") else "model")
    # The same weights but for the rounding of their sum, which is small in float32 alone.
    if decoding.dtype == "float32" and (whole := merged(model)) is not None:
        model = whole
        waits("merged")
    seeds = [int(digest([decoding.seed, e.id]), 16) for e in test_set.examples]
    replies = _replies(model, headers, seeds, system.name, decoding, options, journal)
    general: list[tuple[float, int]] = []
    if texts and not system.shots:
        general = journal.once(
            "general",
            lambda: with_fewer_rows(lambda size: text_nll(model, tokenizer, texts, size), size),
        )
    nats = journal.once(
        "references",
        lambda: with_fewer_rows(
            lambda size: _reference_nats(system, model, asked, test_set, size), size
        ),
    )
    journal.close()
    return Answers(_rows(system, test_set, replies, nats), latency, general)


def _identity(system: System, decoding: Decoding) -> dict[str, Any]:
    """What replies depend on, beside the prompts; rows that are answered together change none."""
    return {
        **system.hashes,
        "base": [system.base, system.revision, system.quantize],
        "name": system.name,
        "decoding": {**asdict(decoding), "batch_size": None},
        "versions": {name: version(name) for name in ("tuner", "torch", "transformers", "peft")},
    }


def _replies(
    model: Any,
    headers: Sequence[Sequence[int]],
    seeds: Sequence[int],
    name: str,
    decoding: Decoding,
    options: dict[str, Any],
    journal: Journal,
) -> list[Reply]:
    """A reply to each header; only those that the journal has not are generated."""

    def generated(size: int) -> None:
        missing = [place for place in range(len(headers)) if str(place) not in journal.found]
        if not missing:
            return
        if len(missing) < len(headers):
            done = len(headers) - len(missing)
            rank_zero_info(f"{name}: {done} of {len(headers)} replies are there already")
        sampling = None
        if decoding.temperature > 0:
            own = [seeds[place] for place in missing]
            sampling = Sampling(decoding.temperature, decoding.top_p, own)
        generate(model, headers[:1], max_new_tokens=4, batch_size=size, **options)
        generate(
            model,
            [headers[place] for place in missing],
            max_new_tokens=decoding.max_new_tokens,
            batch_size=size,
            progress=name,
            sampling=sampling,
            each_reply=lambda n, reply: journal.put(str(missing[n]), astuple(reply)),
            **options,
        )

    with_fewer_rows(generated, decoding.batch_size)
    return [Reply(*journal.found[str(place)]) for place in range(len(headers))]


def _reference_nats(
    system: System,
    model: Any,
    asked: Sequence[Sequence[Message]],
    test_set: TestSet,
    batch_size: int,
) -> list[tuple[float | None, int]]:
    """Nats and tokens of each reference behind its prompt; None where it does not fit."""
    tokenizer = load_tokenizer(system.base, system.revision)
    whole = [
        Example((*messages, example.messages[-1]), example.group)
        for messages, example in zip(asked, test_set.examples, strict=True)
    ]
    longest = context_length(system.base, system.revision) or NO_LIMIT
    encoded = encode_replies(whole, test_set.prompt, tokenizer, longest)
    known = [row for row in encoded if row is not None]
    found = iter(row_nats(model, known, batch_size=batch_size))
    return [(None, 0) if row is None else next(found) for row in encoded]


def _rows(
    system: System,
    test_set: TestSet,
    replies: Sequence[Reply],
    nats: Sequence[tuple[float | None, int]] | None = None,
) -> list[Prediction]:
    tokenizer = load_tokenizer(system.base, system.revision)
    measured = nats or [(None, 0)] * len(replies)
    return [
        Prediction(
            system=system.name,
            id=example.id,
            category=example.category,
            prompt=test_set.prompt.header(with_shots(example.prompt, system.shots), tokenizer),
            reference=example.reply,
            prediction=reply.text,
            stop_reason=reply.stop_reason,
            new_tokens=reply.new_tokens,
            seconds=reply.seconds,
            group=example.group,
            slices={key: str(example.meta[key]) for key in SLICES if example.meta.get(key)},
            question=example.prompt[-1].content,
            expects=dict(example.meta.get("expects") or {}),
            reference_nll=known,
            reference_tokens=tokens,
        )
        for example, reply, (known, tokens) in zip(
            test_set.examples, replies, measured, strict=True
        )
    ]
