"""Secrets are neither printed nor written, whatever goes wrong; what is none stays as it is."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from several import COMMANDS

from tests.conftest import ROOT
from tuner.cli import main
from tuner.errors import UserError
from tuner.private import keep_private, refuse_secrets, without_secrets

CANARY = "cAnArY"


@pytest.mark.parametrize(
    "text",
    [
        "https://ann:cAnArY@host/x",
        "https:/ann:cAnArY@host/x.jsonl",  # as a path has it
        "postgresql+psycopg://ann:cAnA/rY@cAnArY@host:5432/sweeps",
        "no run named 'https://ann:cAnArY' in logs",  # cut off before the @
        "cannot listen on ann:cAnArY@host:8642",
        "https://hub.example/model?token=cAnArY&x=1",
        "https://store.example/x?X-Amz-Signature=cAnArY",
        "--trainer.logger.init_args.api_key=cAnArY",
        "trainer.logger={'api_key': 'cAnArY', 'mode': 'x'}",
        "NestedArg(key='api_key', val='cAnArY')",
        "--model.hub_token=cAnArY",
        "--trainer.callbacks.token cAnArY",
        "--logger.api_key cAnArY",
        "https://ann:pa'cAnArY@host/x",
        "//ann:cAnArY@host/x.jsonl",
        "no run named '/x//ann:cAnArY@host'",
        "https%3A%2F%2Fann%3AcAnArY%40host/x",
        "https://host/x?api%5Fkey=cAnArY",
        "https://host/x;token=cAnArY",
        'password="a\\"cAnArY"',
        "password='a''cAnArY'",
        "AccountName=x;AccountKey=cAnArY==;EndpointSuffix=x",
        "https://store.example/x?sv=1&sig=cAnArY&pwd=cAnArY",
        "password='it is cAnArY'",
        "passwd=a,cAnArY",
        "{'token': 'cAnArY', 'x': 1}",
        "{'Authorization': 'Basic cAnArY=='}",
        "github_pat_cAnArYcAnArYcAnArY0",
        "glpat-cAnArYcAnArYcAnArY",
        "xoxb-123-cAnArYcAnArY",
        "https://hooks.slack.com/services/T0/B0/cAnArY",
        "{'Authorization': 'Bearer cAnArYcAnArY'}",
        "password: cAnArY",
        "hf_cAnArYcAnArY",
        "wrong key sk-proj-cAnArYcAnArY0000",
    ],
)
def test_what_is_a_secret_by_its_form_is_hidden(text: str) -> None:
    told = without_secrets(text)
    assert CANARY not in told
    assert "***" in told
    assert without_secrets(told) == told
    with pytest.raises(UserError, match=r"^some\.key: holds") as caught:
        refuse_secrets([("other", 1), ("some.key", text)])
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "eval.py lora@2 'lora@*' --logs=logs",
        "http://127.0.0.1:8642/ and http://[::1]:8000/v1",
        "data.source.path: no such file: /home/a@b/rows.jsonl. Did you mean 'x'?",
        "configs/lora.yaml:12: unknown key 'model.token'",
        "api_key=None",
        "--samples.max_new_tokens=64 pad_token=<pad> tokens: 12",
        "stop token: </s>; the key 'x' stands twice",
        "write to joe@example.org",
        "--data.source.token_column x --samples.max_new_tokens 64 the token: x",
        "Basic usage: see https://host/x, and Authorization is needed",
    ],
)
def test_what_is_none_is_told(text: str) -> None:
    assert without_secrets(text) == text
    refuse_secrets([("key", text)])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WANDB_API_KEY", "0123456789abcdef", "wandb: 0123456789abcdef is refused"),
        ("MY_HOUSE_TOKEN", " odd one\n", "as odd one, and"),
        ("PGPASSWORD", "a+b(c$", "login a+b(c$ failed"),
        ("HTTPS_PROXY", "http://ann:p%40ssword@proxy:1", "ann and p@ssword, or p%40ssword"),
        ("ALL_PROXY", "ann:hunter@proxy:1", "no scheme: hunter"),
        ("OPENAI_API_KEY2", "0123456789abcdef", "line\\n0123456789abcdef"),
        ("MYSQL_PWD", "0123456789abcdef", "login 0123456789abcdef failed"),
        ("HF_TOKENS", "odd/one two", "x=odd%2Fone%20two"),
        ("HTTP_PROXY", "http://ann:hunter@p", base64.b64encode(b"ann:hunter").decode()),
        ("WANDB_API_KEY", "0123456789abcdef", "/data/u_0123456789abcdef_x/rows.jsonl"),
        ("WANDB_API_KEY", "0123456789abcdef", "a%2F0123456789abcdef"),
        ("WANDB_API_KEY", "hunter hunter", base64.b64encode(b"api:hunter hunter").decode()),
        ("HF_TOKENS", "odd/one two", "x=odd/one%20two and odd%2Fone+two"),
        ("MY_PASSWORD", "hunter\xe4", "h = 'hunter\\u00e4' or b'hunter\\xc3\\xa4'"),
        ("SSH_PRIVATE_KEY", "-----BEGIN\n0123456789abcdef\n-----END", "line 0123456789abcdef"),
    ],
)
def test_values_of_the_environment_are_hidden(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert without_secrets(said) == said
    monkeypatch.setenv(name, value)
    told = without_secrets(said)
    for secret in (
        "0123456789abcdef",
        "odd one",
        "odd%2Fone",
        "a+b(c",
        "p@ssw",
        "p%40ssw",
        "hunter",
        "YW5u",
        "YXBp",
        "odd/one",
    ):
        assert secret not in told


def test_the_place_of_a_secret_and_parts_of_words_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN_PATH", "/home/ann/token")
    monkeypatch.setenv("A_KEY", "lora")
    monkeypatch.setenv("B_KEY", "secret")
    text = "/home/ann/token lora secretary"
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.callbacks", [{"class_path": "Ping", "init_args": {"token": "cAnArY"}}]),
        ("trainer.callbacks.init_args.auth", "cAnArY"),
        ("x.headers", {"authorization": "cAnArY"}),
        ("x.login", {"user": "ann", "pwd": "cAnArY"}),
        ("x.logins", {"api_key": ["cAnArY"]}),
    ],
)
def test_settings_that_are_called_as_secrets_are_refused(key: str, value: Any) -> None:
    with pytest.raises(UserError, match="holds a login, a key or a token") as caught:
        refuse_secrets([("other", 1), (key, value)])
    assert CANARY not in str(caught.value)


def test_settings_that_only_look_so_are_taken() -> None:
    names = {"pad_token": "<pad>", "key": None, "prng_key": 0, "token_column": "x", "author": "a"}
    refuse_secrets([("data.prompt", names), ("lr_scheduler.monitor", "val_loss")])


@pytest.fixture
def private() -> Iterator[None]:
    before = warnings.formatwarning, sys.excepthook, threading.excepthook
    factory = logging.getLogRecordFactory()
    keep_private()
    yield
    logging.setLogRecordFactory(factory)
    warnings.formatwarning, sys.excepthook, threading.excepthook = before


@pytest.mark.usefixtures("private")
def test_logs_warnings_and_tracebacks_are_hidden_too(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("any").warning("GET %s failed", "https://ann:cAnArY@host/")
    assert "https://***@host/ failed" in caplog.text
    try:
        raise KeyError("https://ann:cAnArY@host/")
    except KeyError:
        logging.getLogger("any").exception("it failed")
    assert "KeyError: 'https://***@host/'" in caplog.text
    told = warnings.formatwarning("https://ann:cAnArY@host/", UserWarning, "x.py", 1, "")
    assert "https://***@host/" in told
    try:
        raise ValueError("https://ann:cAnArY@host/")
    except ValueError:
        sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType]
    thread = threading.Thread(target=lambda: int("https://ann:cAnArY@host/"))
    thread.start()
    thread.join()
    error = capsys.readouterr().err
    assert error.count("Error: https://***@host/") == 1
    assert "base 10: 'https://***@host/'" in error
    assert CANARY not in caplog.text + told + error


ODD = f"""
import logging, warnings
import lightning.pytorch
def main(args):
    warnings.warn_explicit("https://ann:{CANARY}@host/", UserWarning, lightning.pytorch.__file__, 1)
    logging.getLogger("any").warning("https://ann:{CANARY}@host/")
    raise ValueError("https://ann:{CANARY}@host/")
"""


def test_a_command_is_private_from_its_start(tmp_path: Path) -> None:
    """Lightning puts a format of its own for the warnings of its files."""
    (tmp_path / "odd.py").write_text(ODD)
    code = "from tuner.process import start; start('odd')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr.count("https://***@host/") == 4, "the last one is also in the source"
    assert CANARY not in done.stderr


def test_a_printed_configuration_shows_none(
    command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--model.base={LOGIN}", "--name=lora", "--print_config"]
    with pytest.raises(SystemExit):
        main(command("fit", *options))
    said = capsys.readouterr().out
    assert "base: https://***@host/x" in said
    assert "name: lora" in said
    assert CANARY not in said


LOGIN = f"https://ann:{CANARY}@host/x"


def wrong(fit: list[str], logs: Path) -> list[list[str]]:
    """Command lines that end with a message; a secret is in each, or in the environment."""
    sweep = ["tuner.tools.sweep", str(ROOT / "configs/sweeps/rank.yaml"), f"--logs={logs}"]
    compare = ["tuner.tools.compare", "lora", f"--logs={logs}", "--latency=0", "--limit=1"]
    return [
        [*fit, f"--model.base={LOGIN}"],
        [*fit, f"--model.base=https://host/x?token={CANARY}"],
        [*fit, f"--data.source.path={LOGIN}.jsonl"],
        [*fit, "--trainer.logger=WandbLogger", f"--trainer.logger.init_args.api_key={CANARY}"],
        [*fit, f"--api_key={CANARY}"],
        [*fit, f"--ckpt_path={LOGIN}.ckpt"],
        [*fit, f"--config={LOGIN}.yaml"],
        ["tuner.tools.compare", LOGIN, f"--logs={logs}"],
        [*compare, f"--data={LOGIN}.yaml"],
        [*compare, f"--suite={LOGIN}.yaml"],
        [*compare, f"--output=/proc/{LOGIN}"],
        [*sweep, f"--storage=postgresql://ann:{CANARY}@127.0.0.1:9/x"],
        [*sweep, f"--model.base={LOGIN}"],
        ["tuner.tools.rate", LOGIN, f"--logs={logs}"],
        ["tuner.tools.export", "lora", f"--to=/proc/{LOGIN}", f"--logs={logs}"],
        ["tuner.tools.rate", "lora", f"--logs={logs}", f"--host=ann:{CANARY}@host"],
    ]


def unreachable(fit: list[str]) -> list[list[str]]:
    """Command lines that ask a hub which is not there; its client tries for half a minute each."""
    return [
        [*fit, "--model.base=someone/nothere"],
        [*fit, "--data.source=Dolly", "--data.source.path=null"],
    ]


def right(fit: list[str], folder: Path) -> list[list[str]]:
    """Command lines that work."""
    logs = f"--logs={folder / 'logs'}"
    return [
        [*fit, "--name=lora"],
        ["tuner.tools.preview", *fit[2:], "--rows=1", f"--html={folder / 'page.html'}"],
        ["tuner.tools.plan", *fit[2:]],
        ["tuner.tools.compare", "lora", logs, "--limit=2", "--max_new_tokens=3", "--latency=0"],
        ["tuner.tools.rate", "lora", logs, "--rater=Ann", f"--export={folder / 'ann.csv'}"],
        ["tuner.tools.export", "lora", logs, f"--to={folder / 'export'}"],
        ["tuner.tools.chat", "lora", logs, "--max_new_tokens=3", f"--history={folder / 'kept'}"],
    ]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_no_byte_that_is_printed_or_written_holds_a_secret(
    every: bool,
    command: Callable[..., list[str]],
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    fit = ["tuner.cli", *command("fit", "--trainer.max_steps=2", "--trainer.val_check_interval=1")]
    works = right(fit, tmp_path) if every else right(fit, tmp_path)[:1]
    fails = wrong(fit, tmp_path / "logs") + (unreachable(fit) if every else [])
    names = ("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "VLLM_API_KEY", "PGPASSWORD", "AWS_KEY")
    home = tmp_path / "home"
    home.mkdir()
    (home / "token").write_text(f"hf_{CANARY}00000000")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment = kept | {name: f"{name}{CANARY}" for name in names}
    environment |= {
        "HTTPS_PROXY": f"http://ann:{CANARY}%40x@127.0.0.1:9",
        "HF_ENDPOINT": f"http://bob:{CANARY}@127.0.0.1:9",
        "HF_HOME": str(home),
        "TUNER_DEBUG": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps([*works, *fails])],
        cwd=ROOT, env=environment, input=b"hello\n", capture_output=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    codes = [line for line in done.stderr.splitlines() if line.startswith(b"code ")]
    assert codes == [b"code 0"] * len(works) + [b"code 2"] * len(fails), said.decode()[-3000:]
    assert said.count(b"Traceback") >= len(fails), "with TUNER_DEBUG=1"
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file != home / "token"]
    written = {str(file): file.read_bytes() for file in files} | {"printed": said}
    assert any("tfevents" in name for name in written)
    assert any(name.endswith(".ckpt") for name in written)
    forms = (CANARY.encode(), base64.b64encode(f"ann:{CANARY}@x".encode())[:12])
    leaks = [name for name, content in written.items() if any(f in content for f in forms)]
    figures(
        "security",
        "secrets in the environment, in addresses and in options; every byte printed or written",
        len(works) + len(fails),
        files=len(files),
        leaks=len(leaks),
    )
    assert not leaks
