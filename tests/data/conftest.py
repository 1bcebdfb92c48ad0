"""Tokenizers, small files and one real data set, shared by the tests of the data rooms."""

import copy
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import tuner
from tuner.data.curate import Curated
from tuner.data.datamodule import ConversationData
from tuner.data.sources import Source
from tuner.data.sources.dolly import Dolly

PICO = Path(tuner.__file__).parent / "assets" / "pico"


@functools.cache
def _load(path: Path) -> Any:
    return AutoTokenizer.from_pretrained(str(path))


@functools.cache
def _dolly(shared: Path) -> Curated:
    source = Dolly(str(shared / "data/dolly/databricks-dolly-15k.jsonl"))
    llama = _load(shared / "models/llama_tokenizer/hf")
    sizes = {"max_length": 512, "val_size": 0.05, "test_size": 0.05, "seed": 1}
    return prepared(source, llama, **sizes)


def prepared(source: Source, tokenizer: Any, **settings: Any) -> Curated:
    """A source as the data module prepares it."""
    return ConversationData(source, **settings).prepare(tokenizer)


@pytest.fixture
def pico() -> Any:
    """The embedded tokenizer: byte-level pieces, TinyLlama's template."""
    return copy.deepcopy(_load(PICO))


@pytest.fixture
def llama(shared: Path) -> Any:
    """TinyLlama's own tokenizer: SentencePiece with byte fallback, pad token = eos."""
    return copy.deepcopy(_load(shared / "models/llama_tokenizer/hf"))


@pytest.fixture(params=["pico", "llama"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """One real tokenizer after the other."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def dolly(shared: Path) -> Curated:
    """All of Dolly, curated for TinyLlama with at most 512 tokens a row."""
    return _dolly(shared)


@pytest.fixture
def with_template(pico: Any) -> Callable[..., Any]:
    """Pico's pieces with another chat template and further special tokens."""

    def build(template: str, specials: Sequence[str] = (), eos: str | None = None) -> Any:
        changed = copy.deepcopy(pico)
        changed.add_special_tokens({"additional_special_tokens": list(specials)})
        if eos is not None:
            changed.eos_token = eos
        changed.chat_template = template
        return changed

    return build


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write a file of bytes, text or rows (as JSONL) and give its path."""

    def to(name: str, content: bytes | str | list[Any]) -> str:
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(file)

    return to
