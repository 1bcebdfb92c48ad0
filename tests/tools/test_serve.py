"""`tuner serve`: the engine's command, who may be served, and the real engine asked by `openai`."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import hypothesis
import pytest
import torch
from comparisons import ROOT
from huggingface_hub.utils import validate_repo_id
from hypothesis import strategies as st
from psutil import Process
from trained import Trained

from tuner.backbone import load_tokenizer
from tuner.data.encode import encode_header
from tuner.data.example import Message
from tuner.evaluation.systems import find_system
from tuner.generate import generate, stop_ids
from tuner.tools import serve
from tuner.tools.serve import main

COUNT = 2000  # bodies of the long attack
ASK = "Where is my order?"
DOCS = ROOT / "docs" / "serving.md"
# Fails where a program connects to anything but this machine.
OFFLINE = """
import socket, sys
print("guarded", file=sys.stderr)
connect = socket.socket.connect
def local_only(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
        raise SystemExit(f"something connects to {address}")
    return connect(self, address)
socket.socket.connect = local_only
"""
# Stands in for vLLM: says how it was called.
VLLM = """#!{python}
import json, os, sys
wanted = ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS", "VLLM_API_KEY", "HF_HUB_CACHE")
print(json.dumps([sys.argv[1:], {{k: os.environ.get(k) for k in wanted}}]), flush=True)
"""


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command `vllm` on PATH that ends at once."""
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(VLLM.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return program


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Calls the command; what it would become runs beside this process, to its end."""

    class Became(BaseException):
        pass

    def become(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        assert program == arguments[0]
        subprocess.run(arguments, env=environment, check=True)
        raise Became

    monkeypatch.setattr(os, "execve", become)
    monkeypatch.setattr(os, "chdir", lambda _: None)

    def call(run: object, *options: str) -> tuple[int | None, str, str]:
        capfd.readouterr()
        try:
            code = main([str(run), "--port=0", *options])
        except Became:
            code = None
        said = capfd.readouterr()
        return code, said.out, said.err

    return call


def called(out: str) -> tuple[list[str], dict[str, str | None]]:
    """Arguments and environment that the stand-in for vLLM got."""
    arguments, environment = json.loads(out.strip().splitlines()[-1])
    return arguments, environment


def test_vllm_serves_the_merged_model_under_the_runs_name(
    lora: Path, vllm: Path, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = start(lora)
    assert code is None
    arguments, environment = called(out)
    model = Path(arguments[1])
    assert model.parents[2] == lora / "served"
    assert (model / "model.safetensors").is_file()
    assert arguments[0] == "serve"
    assert arguments[2:6] == ["--served-model-name", "lora", "--dtype", "bfloat16"]
    assert json.loads(arguments[7]) == {"temperature": 0.0, "max_new_tokens": None}
    assert arguments[8:10] == ["--allowed-origins", "[]"], "no page of another site reads replies"
    assert arguments[10:13] == ["--host", "127.0.0.1", "--port"]
    assert f"http://127.0.0.1:{arguments[13]}/v1" in out
    assert environment == {
        **{"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
        **{"VLLM_API_KEY": None, "HF_HUB_CACHE": None},
    }
    monkeypatch.setattr(serve, "release", None)  # a second start needs none
    again = called(start(lora)[1])[0]
    assert again[:8] == arguments[:8]


def test_vllm_puts_the_adapter_on_its_base(
    trained: Trained, tiny_base: Path, vllm: Path, start: Any
) -> None:
    run = trained("small", f"--model.base={tiny_base}", "--model.head.r=12")
    arguments = called(start(run, "--form=adapter")[1])[0]
    given = dict(zip(arguments[2::2], arguments[3::2], strict=False))
    assert arguments[1] == str(tiny_base)
    place = arguments[arguments.index("--lora-modules") + 1]
    name, _, adapter = place.partition("=")
    assert name == "small"
    assert (Path(adapter) / "adapter_model.safetensors").is_file()
    assert (Path(adapter) / "chat_template.jinja").is_file()
    assert given["--served-model-name"] == "base"
    assert given["--tokenizer"] == given["--generation-config"] == adapter
    assert "--enable-lora" in arguments
    assert arguments[arguments.index("--max-lora-rank") + 1] == "16"


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("nf4", "--model.quantize=nf4", "trained on a base in nf4"),
        ("ia3", "--model.head=IA3", "takes plain LoRA, not IA3"),
        ("dora", "--model.head.dora=true", "takes plain LoRA, not LoRA"),
    ],
)
def test_an_adapter_that_vllm_cannot_take_is_refused(
    name: str,
    option: str,
    message: str,
    trained: Trained,
    tiny_base: Path,
    vllm: Path,
    start: Any,
) -> None:
    run = trained(name, f"--model.base={tiny_base}", option)
    code, _, err = start(run, "--form=adapter")
    assert code == 2
    assert message in err
    assert "leave --form merged" in err


def test_other_machines_are_served_with_a_key_alone(
    lora: Path, vllm: Path, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = start(lora, "--host=0.0.0.0")
    assert code == 2
    assert "export VLLM_API_KEY=" in err
    code, _, err = start(lora, "--host=0.0.0.0", "--engine=transformers")
    assert code == 2
    assert "asks nobody for a key" in err
    monkeypatch.setenv("VLLM_API_KEY", " ")
    assert start(lora, "--host=0.0.0.0")[0] == 2
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    code, out, _ = start(lora, "--host=0.0.0.0")
    assert code is None
    arguments, environment = called(out)
    assert "0.0.0.0" in arguments
    assert "secret" not in " ".join(arguments)
    assert environment["VLLM_API_KEY"] == "secret"


def test_serve_mistakes(
    lora: Path, start: Any, monkeypatch: pytest.MonkeyPatch, trained: Trained, tiny_base: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    for options, message in [
        (("--engine=vllm",), "there is no command `vllm`"),
        (("--engine=sglang",), "engine: 'sglang' is not allowed"),
        (("--form=adapter",), "takes whole models alone"),
        (("--port=99999",), "--port: cannot listen"),
    ]:
        code, _, err = start(lora, *options)
        assert code == 2
        assert message in err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = start(lora, f"--port={taken.getsockname()[1]}")
    assert code == 2
    assert "--port 0 takes any" in err
    run = trained("prompt", f"--model.base={tiny_base}", "--model.head=PromptTuning")
    code, _, err = start(run)
    assert code == 2
    assert "virtual tokens" in err
    monkeypatch.setattr("transformers.utils.import_utils.is_serve_available", lambda: False)
    code, _, err = start(lora)
    assert code == 2
    assert "pip install -e '.[serve]'" in err


def test_a_rendering_without_a_template_is_served_with_a_warning(
    trained: Trained, tiny_base: Path, vllm: Path, start: Any
) -> None:
    prompt = ("--data.prompt=CustomerAgent", "--data.prompt.prefix=[priority]")
    code, _, err = start(trained("agent", f"--model.base={tiny_base}", *prompt))
    assert code is None
    assert "send whole prompts to /v1/completions" in err


@pytest.mark.parametrize(
    ("folder", "name"), [("lora", "lora"), ("a--b..c", "a-b-c"), ("r8.-", "r8"), ("läuft", "run")]
)
def test_a_model_is_called_what_a_hub_could_call_it(folder: str, name: str, tmp_path: Path) -> None:
    assert serve.model_name(tmp_path / folder / "version_0") == name
    validate_repo_id(name)


def own_reply(run: Path, ask: str, tokens: int) -> str:
    """What the run's own model says."""
    system = find_system(str(run), run.parent)
    tokenizer = load_tokenizer(system.base)
    prompt = system.prompt
    header = encode_header([Message("user", ask)], prompt, tokenizer)
    (reply,) = generate(
        system.load(torch.float32, torch.device("cpu")),
        [header],
        tokenizer=tokenizer,
        stops=stop_ids(prompt, tokenizer),
        max_new_tokens=tokens,
        batch_size=1,
    )
    return reply.text


@pytest.fixture
def engine(lora: Path, tmp_path: Path) -> Any:
    """`tuner serve lora` with the engine that is installed, in a folder of that name's folder."""
    (tmp_path / "sitecustomize.py").write_text(OFFLINE)
    hostile = tmp_path / "lora"  # would be taken for the model by an engine that starts here
    hostile.mkdir()
    path = f"{tmp_path}:{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "tuner", "serve", str(lora), "--port=0", "--dtype=float32"),
            "--engine=transformers",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        line = next((text for text in process.stdout if "http://" in text), "")
        url = line.partition("at ")[2].partition(";")[0]
        assert url, process.stderr and process.stderr.read()
        ends = time.monotonic() + 120
        while time.monotonic() < ends and process.poll() is None:
            try:
                urllib.request.urlopen(url.replace("/v1", "/health"), timeout=5).close()
                break
            except urllib.error.URLError:
                time.sleep(0.2)
        yield process, url
        process.kill()


def test_the_openai_client_gets_the_runs_replies(lora: Path, engine: Any) -> None:
    from openai import BadRequestError

    process, url = engine
    found = re.search(r"^ {4}from openai.*?^(?=\S)", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(dedent(found[0]).replace("http://127.0.0.1:8000/v1", url), names)
    client, answer = names["client"], names["answer"]
    text = answer.choices[0].message.content.strip()
    assert text == own_reply(lora, ASK, 64)
    assert answer.usage.completion_tokens <= 64
    assert [model.id for model in client.models.list()] == ["lora"]
    chat: Any = {"model": "lora", "messages": names["question"], "max_completion_tokens": 12}
    pieces = [
        piece.choices[0].delta.content or ""
        for piece in client.chat.completions.create(**chat, stream=True)
        if piece.choices
    ]
    assert len([piece for piece in pieces if piece]) > 1, "word by word"
    assert text.startswith("".join(pieces).strip())
    with pytest.raises(BadRequestError):
        client.chat.completions.create(**chat | {"model": "other"})
    assert "generation_config" in ask(url, b'{"generation_config": "{}"}')[1]
    assert ask(url, json.dumps(chat | {"logit_bias": {"5": -100}}).encode())[0] == 200
    long = json.dumps(chat | {"messages": [{"role": "user", "content": "order " * 5000}]})
    status, said = ask(url, long.encode())
    assert status == 400
    assert "made for 1024 of prompt and reply" in said
    status, said = ask(
        url, b'{"prompt": "%s", "max_tokens": 5000}' % (b"order " * 500), "/completions"
    )
    assert json.loads(said)["usage"]["total_tokens"] <= 1024
    client.close()
    assert "tuner.engine" in Process(process.pid).cmdline(), "no process between"
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert err.count("guarded") == 2, "before and after the engine has taken over"
    assert "something connects to" not in err
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0])), timeout=5)


def ask(url: str, body: bytes, path: str = "/chat/completions") -> tuple[int, str]:
    """Status and text of the engine's answer."""
    request = urllib.request.Request(url + path, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS: dict[str, Any] = {
    "model": "lora", "temperature": 0.5, "top_p": 0.9, "seed": 1, "stop": ["x"], "stream": False,
    "frequency_penalty": 0.5, "logit_bias": {"5": 1.5}, "generation_config": "{}", "user": "Ann",
    "tools": [{"type": "function", "function": {"name": "find", "parameters": {}}}],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "find", "arguments": "{}"}}]},
        {"role": "user", "content": ASK},
    ],
    "prompt": ASK, "suffix": "x", "chat_template_kwargs": {},
}  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path and a body: some fields of the interface, up to two values in it changed."""
    path, needed = draw(
        st.sampled_from([("/chat/completions", "messages"), ("/completions", "prompt")])
    )
    names = draw(st.sets(st.sampled_from(sorted(set(FIELDS) - {needed})), max_size=4))
    body = copy.deepcopy({name: FIELDS[name] for name in (needed, *sorted(names))})
    for _ in range(draw(st.integers(0, 2))):
        place: Any = body
        while True:
            keys = list(range(len(place))) if isinstance(place, list) else sorted(place, key=str)
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and draw(st.booleans()):
                place = place[key]
                continue
            place[key] = draw(VALUES)
            break
    tokens = draw(st.sampled_from([1, 2, 2, 0, -5, "1", 1.5, True]))
    return path, json.dumps(body | {"max_tokens": tokens}).encode()


@pytest.mark.soak
def test_no_body_is_a_fault_of_the_server(engine: Any, figures: Callable[..., None]) -> None:
    process, url = engine
    found: Counter[int] = Counter()
    for pipe in (process.stdout, process.stderr):  # a full one would stop it
        threading.Thread(target=pipe.read, daemon=True).start()

    @hypothesis.settings(max_examples=COUNT, deadline=None, database=None, derandomize=True)
    @hypothesis.given(bodies())
    def attack(asked: tuple[str, bytes]) -> None:
        status, text = ask(url, asked[1], asked[0])
        found[status] += 1
        assert status in (200, 400), (asked, text)

    attack()
    figures(
        "security", "bodies sent to the endpoint of transformers, values of any type in any field",
        found.total(), answered=found[200], refused=found[400], server_errors=0,
    )  # fmt: skip
    assert found[200] > COUNT / 20
