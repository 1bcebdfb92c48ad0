"""Generation equals the plain library call, one prompt at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from tuner import attention
from tuner.backbone import load_tokenizer
from tuner.data.encode import encode_header
from tuner.data.example import Message
from tuner.data.prompts.chat import Chat
from tuner.errors import UserError
from tuner.generate import Sampling, _reply, generate, stop_ids
from tuner.sampling import SeededSampling

TEXTS = [
    "where is my order",
    "hi",
    "please help me with a very late parcel " * 3,
    "refund?",
    "my parcel is broken and nobody answers",
    "stop",
    "can I pay by card?",
]


@pytest.fixture
def model(tiny_base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()


def test_equals_one_call_a_prompt_in_order(model: Any, tiny_base: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_base))
    headers = [encode_header([Message("user", text)], Chat(), tokenizer) for text in TEXTS]
    # A generation setting of the base must not leak in.
    model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0)
    replies = generate(
        model,
        headers,
        tokenizer=tokenizer,
        stops=stop_ids(Chat(), tokenizer),
        max_new_tokens=9,
        batch_size=3,
    )
    for header, reply in zip(headers, replies, strict=True):
        ids = torch.tensor([header])
        for _ in range(9):
            step = model(input_ids=ids).logits[0, -1].argmax()
            ids = torch.cat([ids, step[None, None]], dim=1)
            if int(step) == tokenizer.eos_token_id:
                break
        new = ids[0, len(header) :].tolist()
        assert reply.new_tokens == len(new)
        assert reply.text == tokenizer.decode(new, skip_special_tokens=True).strip()


def test_stop_reasons_and_counts(tiny_base: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_base))
    words = tokenizer("order please", add_special_tokens=False)["input_ids"]
    end = cast("int", tokenizer.eos_token_id)
    said = {"eos": [*words, end], "empty": [end], "length": words}
    for reason, tokens in said.items():
        reply = _reply(tokens, [end], tokenizer, 0.5)
        assert (reply.stop_reason, reply.new_tokens) == (reason, len(tokens))
        assert reply.text == ("" if reason == "empty" else "order please")


TURN = "{% for m in messages %}{{ '[' + m.role + ']' + m.content + 'END' }}{% endfor %}"
HEADER = "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"


def ending(mark: str, *added: str, special: bool = True) -> Any:
    """The embedded tokenizer with a template that ends turns with `mark`."""
    tokenizer = load_tokenizer("pico")
    tokenizer.add_tokens(list(added), special_tokens=special)
    tokenizer.chat_template = TURN.replace("END", mark) + HEADER
    return tokenizer


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    ("mark", "ends_with"),
    [
        ("<|end|>", "<|end|>"),
        (" <|end|>\\n", "<|end|>"),
        ("<|done|><|end|>", "<|end|>"),
        ("\\n</s>\\n", "</s>"),
        ("</s>", "</s>"),
    ],
)
def test_stops_are_eos_and_the_token_that_ends_a_reply(
    mark: str, ends_with: str, special: bool
) -> None:
    tokenizer = ending(mark, "<|end|>", "<|done|>", special=special)
    Chat().check(tokenizer)
    wanted = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(ends_with)}
    assert stop_ids(Chat(), tokenizer) == sorted(wanted)


def test_an_end_in_ordinary_pieces_stops_nothing_and_is_refused_in_training() -> None:
    """Its last piece is `>`: stopping there would cut every reply that holds one."""
    tokenizer = ending("<|end|>")
    assert stop_ids(Chat(), tokenizer) == [tokenizer.eos_token_id]
    with pytest.raises(UserError, match=r"ordinary text \('Answer\.<\|end\|>'\).*eos_token"):
        Chat().check(tokenizer)


def test_a_line_break_after_the_end_is_no_stop_where_all_is_learned() -> None:
    tokenizer = load_tokenizer("pico")  # its template writes a line break after each turn
    assert stop_ids(Chat(supervise="all"), tokenizer) == [tokenizer.eos_token_id]


def test_a_drawn_reply_depends_on_its_seed_alone(model: Any, tiny_base: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_base))
    headers = [encode_header([Message("user", text)], Chat(), tokenizer) for text in TEXTS]

    def draw(places: list[int], seeds: list[int], batch_size: int) -> list[str]:
        replies = generate(
            model,
            [headers[place] for place in places],
            tokenizer=tokenizer,
            stops=stop_ids(Chat(), tokenizer),
            max_new_tokens=12,
            batch_size=batch_size,
            sampling=Sampling(1.0, 0.95, seeds),
        )
        return [reply.text for reply in replies]

    together = draw([0, 1, 2, 3], [10, 11, 12, 13], 4)
    assert draw([3, 0], [13, 10], 1) == [together[3], together[0]]
    assert draw([0, 1, 2, 3], [20, 21, 22, 23], 4) != together


def test_noise_draws_from_the_tempered_and_cut_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    draws = 4000
    for temperature, top_p, kept in ((1.0, 1.0, 4), (0.5, 1.0, 4), (1.0, 0.7, 2)):
        noise = SeededSampling(temperature, top_p, list(range(draws)))
        found = noise(range(draws), logits.expand(draws, 4))
        cut = logits[:kept] / temperature
        shares = torch.bincount(found, minlength=4) / draws
        assert torch.allclose(shares[:kept], cut.softmax(dim=0), atol=0.025)
        assert not shares[kept:].any()


def tuned(kind: str, base: Path) -> Any:
    """The tiny base with a random adapter of a kind."""
    from peft import (
        LoraConfig,
        PrefixTuningConfig,
        PromptTuningConfig,
        get_peft_model,
    )

    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    virtual = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 5}
    config = {
        "lora": lambda: LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False),
        "prefix": lambda: PrefixTuningConfig(**virtual),
        "prompt": lambda: PromptTuningConfig(**virtual),
    }[kind]()
    torch.manual_seed(0)
    return get_peft_model(loaded, config).eval()


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("kind", ["lora", "by row", "prefix", "prompt"])
def test_rows_that_end_leave_the_batch_and_change_no_other(
    kind: str, sampled: bool, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(str(tiny_base))
    monkeypatch.setattr(attention, "NEAR", 4)
    model = tuned(kind.replace("by row", "lora"), tiny_base)
    assert kind != "by row" or attention.attend_by_row(model)
    headers = [encode_header([Message("user", text)], Chat(), tokenizer) for text in TEXTS]
    ids = range(tokenizer.vocab_size)
    computed: list[tuple[int, int]] = []
    parts: list[int] = []

    def count(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        words = given.get("input_ids")
        computed.append((given["inputs_embeds"] if words is None else words).shape[:2])
        parts.append(len(given.get("row_columns", [])))

    model.get_base_model().register_forward_pre_hook(count, with_kwargs=True)

    def say(places: list[int], batch_size: int) -> list[tuple[str, int]]:
        computed.clear()
        replies = generate(
            model,
            [headers[place] for place in places],
            tokenizer=tokenizer,
            stops=[token for token in ids if token % 9 == 0],  # a turn ends soon, at random
            max_new_tokens=12,
            batch_size=batch_size,
            sampling=Sampling(1.0, 0.95, [10 + place for place in places]) if sampled else None,
        )
        return [(reply.text, reply.new_tokens) for reply in replies]

    together = say(list(range(len(TEXTS))), 4)
    lengths = [count for _, count in together]
    assert len(set(lengths)) > 1
    # No row is computed after its end, and none stands in two batches.
    steps = [rows for rows, width in computed if width == 1]
    assert sum(steps) == sum(length - 1 for length in lengths)
    assert sum(rows for rows, width in computed if width > 1) == len(TEXTS)
    # Others take the places of those that left, but for a prefix, which cannot be moved.
    assert (max(steps) == 4 and steps.count(4) > 1) or kind == "prefix"
    assert (max(parts) > 1) == (kind == "by row")
    reverse = list(reversed(range(len(TEXTS))))
    assert say(reverse, 1) == [together[place] for place in reverse]


def test_something_is_called_after_each_token_and_can_end_it(model: Any, tiny_base: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_base))
    calls: list[list[int]] = []
    options: dict[str, Any] = {"tokenizer": tokenizer, "stops": [2], "batch_size": 3}
    headers = [[5, 6, 7], [8, 9], [10]]

    found = generate(model, headers, max_new_tokens=6, each_token=calls.append, **options)
    assert len(calls) == max(reply.new_tokens for reply in found)
    (alone,) = generate(model, headers[:1], max_new_tokens=6, each_token=calls.append, **options)
    told = [token for (token,) in calls[-alone.new_tokens :]]
    assert tokenizer.decode(told, skip_special_tokens=True).strip() == alone.text

    def stop(_: list[int]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(model, headers, max_new_tokens=6, each_token=stop, **options)


@pytest.mark.parametrize("kind", ["lora", "prefix", "prompt"])
def test_a_reply_ends_where_the_positions_of_the_base_do(
    kind: str, make_base: Callable[..., Path]
) -> None:
    config = GPT2Config(vocab_size=4096, n_embd=16, n_layer=2, n_head=2, n_positions=40)
    model = tuned(kind, make_base(config=config))
    tokenizer = load_tokenizer("pico")
    places = 40 if kind == "lora" else 35
    headers = [list(range(100, 100 + length)) for length in (places, 9, places - 1, places - 6)]
    options: dict[str, Any] = {"tokenizer": tokenizer, "stops": [], "batch_size": 4}
    replies = generate(model, headers, max_new_tokens=30, **options)
    # The last token of a reply takes no position: it is not read any more.
    assert [reply.new_tokens for reply in replies] == [1, min(30, places - 8), 2, 7]
    assert {reply.stop_reason for reply in replies} == {"length"}
    calls: list[object] = []
    headers.append([5] * (places + 1))
    with pytest.raises(UserError, match=f"takes {places + 1} tokens, .* made for {places} of"):
        generate(model, headers, max_new_tokens=3, each_token=calls.append, **options)
    assert not calls, "before any is answered"


CACHES: dict[str, dict[str, Any]] = {
    "sliding window": {"model_type": "mistral", "sliding_window": 8},
    "learned positions": {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2},
    "linear attention": {"model_type": "mamba", "state_size": 4},
    "both kinds": {
        "model_type": "lfm2",
        "layer_types": ["conv", "full_attention"],
        "block_auto_adjust_ff_dim": False,
    },
}


def with_cache(name: str) -> Any:
    """A random model whose cache is of a kind."""
    from transformers import AutoConfig

    settings: dict[str, Any] = {
        "vocab_size": 4096,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(**(settings | CACHES[name]))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.mark.parametrize("name", CACHES)
def test_rows_leave_caches_of_every_kind(name: str, tiny_base: Path) -> None:
    model = with_cache(name)
    tokenizer = load_tokenizer(str(tiny_base))
    headers = [encode_header([Message("user", text)], Chat(), tokenizer) for text in TEXTS]
    stops = [token for token in range(4096) if token % 9 == 0]
    options: dict[str, Any] = {"tokenizer": tokenizer, "stops": stops, "max_new_tokens": 12}
    together = generate(model, headers, batch_size=4, **options)
    alone = generate(model, headers, batch_size=1, **options)
    assert len({reply.new_tokens for reply in alone}) > 1
    assert [(r.text, r.new_tokens) for r in together] == [(r.text, r.new_tokens) for r in alone]


def test_rows_are_parted_where_much_of_their_columns_is_padding() -> None:
    assert attention.columns_of([300, 310, 290, 20, 0, 0]) == {"row_columns": [(3, 290), (3, 0)]}
    assert attention.columns_of([63, 0, 5]) == {"row_columns": [(3, 0)]}
    assert attention.columns_of([0, 64]) == {"row_columns": [(1, 0), (1, 64)]}


GROUPS = {
    "full attention": [(3, 13), (3, 80), (1, 90), (1, 140), (1, 300)],
    # Nothing can join such a state, so groups are larger after the first.
    "linear attention": [(3, 13), (4, 90), (1, 140), (1, 300)],
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_long_header_pads_no_short_ones(name: str, model: Any, tiny_base: Path) -> None:
    model = model if name == "full attention" else with_cache(name)
    shapes: list[tuple[int, ...]] = []

    def note(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        shapes.append(tuple(given["input_ids"].shape))

    model.register_forward_pre_hook(note, with_kwargs=True)
    headers = [[5] * length for length in (70, 10, 300, 64, 11, 140, 80, 13, 90)]
    tokenizer = load_tokenizer(str(tiny_base))
    generate(model, headers, tokenizer=tokenizer, stops=[2], max_new_tokens=1, batch_size=12)
    assert shapes == GROUPS[name]


@pytest.mark.parametrize("top_p", [0.5, 1.0])
def test_the_smallest_temperature_is_greedy(top_p: float) -> None:
    logits = torch.tensor([[-900.0, 3.0, 4.0, 2.0]])
    assert SeededSampling(1e-320, top_p, [7])([0], logits).tolist() == [2]
