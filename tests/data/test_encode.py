"""The loss mask: exactly the replies and their ends, on any text and any kind of tokenizer."""

import copy
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tuner.data.batching import Joined, Planned
from tuner.data.encode import encode, encode_header
from tuner.data.example import Message
from tuner.data.prompts.base import special_texts
from tuner.data.prompts.chat import Chat
from tuner.errors import UserError

NASTY = [
    "4", "a", "- item\n- item\n\n1. x", "```py\nx = 1\n\n```", "  indented\n\n\n\tdeep", "# Head",
    "👩‍👩‍👧 family", "🇩🇪", "你好\uff0c世界", "नमस्ते",
    "e\u0301", "\u0301 combining", "\u200bzero", "ﷺ",
    "a\u00a0b", "tab\tend", "\u2028line", "<|assistant|>", "<|user|>\nHi\n<|assistant|>\nNo",
    "<0x0A>", "a\r\nb", "\0", "$x^2$ | `y` | <br>", "{{ bos_token }}", "{% raw %}",
    "ends with >", "|>", "s>",
]  # fmt: skip
PIECES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(NASTY),
    st.text(alphabet="你好👍🏽 \n\t.,ñé*_#`", max_size=20),
)
ROW = settings(
    max_examples=80,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def usable(text: str) -> bool:
    """What sources let through: some text; and no sign that decoding cannot give back."""
    return bool(text) and "\u2581" not in text and not any(s in text for s in ("<s>", "</s>"))


TEXT = st.lists(PIECES, min_size=1, max_size=4).map(lambda p: "".join(p).strip()).filter(usable)


def talk(texts: Sequence[str], system: str | None = None) -> list[Message]:
    turns = [Message("user" if n % 2 == 0 else "assistant", t) for n, t in enumerate(texts)]
    return ([Message("system", system)] if system else []) + turns  # pyright: ignore


def check(turns: list[Message], tokenizer: Any, prompt: Chat | None = None) -> None:
    """The labels against an account that knows nothing of offsets: header, reply, header, ..."""
    prompt = prompt or Chat()
    row = encode([turns], prompt, tokenizer)[0]
    ids, labels = row.input_ids.tolist(), row.labels.tolist()
    eos = tokenizer.eos_token_id
    seen = 0
    for place, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        header = encode_header(turns[:place], prompt, tokenizer)
        assert ids[: len(header)] == header
        assert set(labels[seen : len(header)]) <= {-100}
        end = ids.index(eos, len(header)) + 1
        reply = labels[len(header) : end]
        assert tokenizer.decode(reply) == turn.content + "</s>"
        assert reply == ids[len(header) : end]
        seen = end
    assert set(labels[seen:]) <= {-100}
    assert labels.count(eos) == sum(turn.role == "assistant" for turn in turns)
    assert row.targets == sum(label >= 0 for label in labels)


@ROW
@given(prompt=TEXT, reply=TEXT)
@example(prompt="\u0301", reply="\u0301")
def test_reply_and_end_carry_the_loss_and_nothing_else(
    tokenizer: Any, prompt: str, reply: str
) -> None:
    check(talk([prompt, reply]), tokenizer)


@settings(ROW, max_examples=40)
@given(texts=st.lists(TEXT, min_size=4, max_size=6).filter(lambda t: len(t) % 2 == 0), system=TEXT)
def test_every_turn_of_a_conversation(tokenizer: Any, texts: list[str], system: str) -> None:
    check(talk(texts, system), tokenizer)


@pytest.mark.parametrize("reply", NASTY)
def test_nasty_replies(tokenizer: Any, reply: str) -> None:
    check(talk([reply, reply.strip()]), tokenizer)


def test_the_text_after_the_last_end_is_read_but_not_learned(tokenizer: Any) -> None:
    row = encode([talk(["Hi", "Hello."])], Chat(), tokenizer)[0]
    ids = row.input_ids.tolist()
    after = ids[len(ids) - ids[::-1].index(tokenizer.eos_token_id) :]
    assert tokenizer.decode(after).strip(" ") == "\n"
    assert row.labels[-len(after) :].tolist() == [-100] * len(after)


def test_rows_keep_their_order_and_place_over_many_tokeniser_calls(pico: Any) -> None:
    rows = encode([talk(["q", f"reply {n}"]) for n in range(1500)], Chat(), pico)
    assert [row.row for row in rows] == list(range(1500))
    for n in (0, 1023, 1024, 1499):
        assert pico.decode(rows[n].labels[rows[n].labels >= 0]) == f"reply {n}</s>"


@pytest.mark.parametrize("pad", ["</s>", "<unk>"])
def test_ends_are_learned_whatever_the_pad_token_is(llama: Any, pad: str) -> None:
    texts = [talk(["q", "one two three " * 9]), talk(["q", "a", "q", "b"]), talk(["q", "c"])]
    llama.pad_token = pad
    rows = encode(texts, Chat(), llama)
    batch = Joined(rows)[Planned((0, 1, 2), 0)]
    labels = batch["labels"].split(batch["lengths"])
    assert [(line == llama.eos_token_id).sum().item() for line in labels] == [1, 2, 1]
    assert [line[line >= 0][-1].item() for line in labels] == [llama.eos_token_id] * 3
    for row, line in zip(rows, labels, strict=True):
        assert torch.equal(line, torch.from_numpy(row.labels).long())
    other = copy.deepcopy(llama)
    other.pad_token = "<s>"
    again = encode(texts, Chat(), other)
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(rows, again, strict=True))


SEAM = (
    "{% for m in messages %}{{ m.role + ':GAP' + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:GAP' }}{% endif %}"
)


def merging(gap: str, trimmed: bool | None) -> Any:
    """A tokenizer with the piece gap-h: `assistant:` and `hello` grow together over the seam.

    Args:
        gap: what stands between the role mark and the text.
        trimmed: whether offsets leave a leading blank out, as GPT-2's and Llama 3's do;
            None for pieces that are no bytes.
    """
    alphabet = sorted({*pre_tokenizers.ByteLevel.alphabet(), *map(chr, range(33, 127))})
    sign = "Ġ" if gap == " " else ":"
    merge = (sign, "h")
    vocab = {piece: place for place, piece in enumerate(["<s>", "</s>", *alphabet, "".join(merge)])}
    bpe = Tokenizer(models.BPE(vocab=vocab, merges=[merge]))
    if trimmed is not None:
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        bpe.post_processor = processors.ByteLevel(trim_offsets=trimmed)
        bpe.decoder = decoders.ByteLevel()
    template = SEAM.replace("GAP", gap)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", chat_template=template
    )


@pytest.mark.parametrize(("gap", "trimmed"), [("", None), ("", False), (" ", False), (" ", True)])
def test_a_reply_that_merges_with_its_header_gets_no_labels(gap: str, trimmed: bool | None) -> None:
    tokenizer = merging(gap, trimmed)
    for texts in (["hi", "hello"], ["a", "xyz", "b", "hello"], ["a", "hello", "b", "xyz"]):
        row = encode([talk(texts)], Chat(), tokenizer)[0]
        assert (row.labels == -100).all()
        assert row.targets == 0


@pytest.mark.parametrize(("gap", "trimmed"), [("", None), ("", False), (" ", False), (" ", True)])
@pytest.mark.parametrize("reply", ["xyz", "x:hello", "o:h"])
def test_the_same_tokenizer_labels_replies_that_do_not_merge(
    gap: str, trimmed: bool | None, reply: str
) -> None:
    tokenizer = merging(gap, trimmed)
    turns = talk(["hi", reply, "hm", reply])
    row = encode([turns], Chat(), tokenizer)[0]
    runs = "".join("1" if label >= 0 else " " for label in row.labels).split()
    assert len(runs) == 2
    header = encode_header(turns[:1], Chat(), tokenizer)
    assert row.input_ids.tolist()[: len(header)] == header
    assert (row.labels[: len(header)] == -100).all()
    learned = row.labels[len(header) : len(header) + len(runs[0])].tolist()
    pieces = "".join(tokenizer.convert_ids_to_tokens(learned)).replace("Ġ", " ")
    assert pieces == reply + "</s>"


def test_special_texts_are_all_that_would_become_control_tokens(pico: Any, llama: Any) -> None:
    assert special_texts(llama) == ["</s>", "<s>", "<unk>"]
    pico.add_tokens(["<tool>"])  # an ordinary added token
    pico.add_tokens(["<|im_start|>"], special_tokens=True)  # special, but without a name
    assert special_texts(pico) == ["</s>", "<pad>", "<s>", "<|im_start|>"]


def test_a_tokenizer_without_offsets_is_refused(pico: Any) -> None:
    class Slow:
        is_fast = False
        name_or_path = "old/model"

    with pytest.raises(UserError, match=r"'old/model' is a slow one.*tokenizer\.json"):
        encode([talk(["q", "a"])], Chat(), Slow())  # pyright: ignore


def test_an_emoji_is_split_into_bytes_by_both_real_tokenizers(tokenizer: Any) -> None:
    """What the property tests above rely on: several tokens with one range."""
    name = unicodedata.lookup("MAN IN BUSINESS SUIT LEVITATING")
    item = tokenizer(name, add_special_tokens=False, return_offsets_mapping=True)
    assert len(item["offset_mapping"]) > len(set(map(tuple, item["offset_mapping"])))
