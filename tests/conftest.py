"""The whole suite runs offline: any connection but one to this machine is an error."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parent.parent
# The processes that tests start begin with tests/offline/sitecustomize.py, and stay here as well.
OFFLINE = str(Path(__file__).parent / "offline")
os.environ["PYTHONPATH"] = os.pathsep.join([OFFLINE, os.environ.get("PYTHONPATH", "")]).rstrip(":")
SHARED = ROOT.parent / "shared"  # real data and tokenizers, on machines that have them


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family != socket.AF_UNIX and host not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"the tests are offline, but something connects to {address}")
        connect(self, address)  # pyright: ignore

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session", autouse=True)
def _one_thread_each() -> None:
    import torch

    torch.set_num_threads(1)  # the suite runs in two processes on two cores


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data; the test is skipped, with its reason, where it is not there."""
    if not SHARED.is_dir():
        pytest.skip(f"real data not at hand: no folder {SHARED}")
    return SHARED


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Writes down what a long attack has found, for docs/reliability.md; short forms write nothing.

    Its arguments: the section of the page, what was done, how many times, and numbers by name.
    """

    def write(section: str, attack: str, tried: int, **found: float | str) -> None:
        if request.node.get_closest_marker("soak") is None:
            return
        from tuner.callbacks.record import machine

        test = request.node.originalname or request.node.name
        result = {"section": section, "attack": attack, "tried": tried, "found": found}
        text = json.dumps(result | {"test": test, **machine()}, indent=2)
        folder = ROOT / "benchmarks" / "results" / "reliability"
        folder.mkdir(exist_ok=True)
        name = re.sub(r"\W+", "-", request.node.name).strip("-")
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")

    return write


WORDS = [
    "where",
    "is",
    "my",
    "order",
    "parcel",
    "please",
    "help",
    "return",
    "refund",
    "thanks",
    "today",
    "the",
    "a",
    "of",
    "to",
    "and",
    "it",
]


def conversation(number: int) -> dict[str, Any]:
    """A short conversation; its lengths and words depend on the number alone."""
    words = [WORDS[(number * 7 + place * (number % 5 + 1)) % len(WORDS)] for place in range(60)]
    ask = " ".join(words[: 3 + number * 5 % 11])
    reply = " ".join(words[20 : 22 + number * 7 % 23])
    return {"prompt": f"{number} {ask}?", "completion": f"{reply} {number}."}


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a JSONL file of so many ragged conversations."""
    folder = tmp_path_factory.mktemp("rows")

    def write(count: int, first: int = 0) -> Path:
        file = folder / f"rows-{first}-{count}.jsonl"
        rows = [json.dumps(conversation(n)) for n in range(first, first + count)]
        file.write_text("\n".join(rows) + "\n")
        return file

    return write


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a base folder: a small random model behind the tokenizer of pico."""
    from tuner.weights import PICO

    def make(dtype: str = "float32", seed: int = 0, **more: Any) -> Path:
        import torch
        from transformers import AutoModelForCausalLM, LlamaConfig

        settings: dict[str, Any] = {
            "vocab_size": 4096,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "initializer_range": 0.2,  # far from uniform, so that mistakes show in the loss
        }
        config = more.pop("config", None) or LlamaConfig(**(settings | more))
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        torch.set_rng_state(state)
        folder = tmp_path_factory.mktemp("base")
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(PICO / name, folder / name)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_base(make_base: Callable[..., Path]) -> Path:
    """A random 2-layer Llama in float32."""
    return make_base()


@pytest.fixture
def command(
    tiny_base: Path,
    rows_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., list[str]]:
    """Builds a command line: the small base, 40 rows, runs under tmp_path/logs, on the CPU."""
    monkeypatch.setattr(sys, "argv", ["train.py"])

    def build(subcommand: str, *more: object, rows: int = 40) -> list[str]:
        options: dict[str, object] = {
            "model.base": tiny_base,
            "data.source": "Conversations",
            "data.source.path": rows_file(rows),
            "data.batch_size": 4,
            "trainer.default_root_dir": tmp_path / "logs",
            "trainer.accelerator": "cpu",
            "trainer.enable_progress_bar": "false",
            "trainer.enable_model_summary": "false",
            "trainer.log_every_n_steps": 1,
            "samples.count": 0,
            "data.cache_dir": tmp_path / "cache",
        }
        given = [f"--{key}={value}" for key, value in options.items()]
        return [subcommand, *given, *map(str, more)]

    return build


@pytest.fixture
def fit(command: Callable[..., list[str]], tmp_path: Path) -> Callable[..., Path]:
    """Trains in this process and returns the run's folder; further options come last and win."""
    from tuner.cli import main

    def train(*more: object, rows: int = 40) -> Path:
        before = set(tmp_path.glob("logs/*/version_*"))
        assert main(command("fit", *more, rows=rows)) == 0
        (folder,) = set(tmp_path.glob("logs/*/version_*")) - before
        return folder

    return train
