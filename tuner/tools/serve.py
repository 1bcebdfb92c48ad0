"""`tuner serve`: a run behind an OpenAI-compatible endpoint, by an engine that exists."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from tuner.errors import UserError, intact
from tuner.evaluation.systems import System, find_system
from tuner.parser import Parser
from tuner.process import exit_on_sigterm, run
from tuner.release.write import Dtype, Form, release
from tuner.runs import NAME
from tuner.server import LOOPBACK, listen
from tuner.sums import check_sums
from tuner.tools.export import announce, type_of
from tuner.weights import locate

DESCRIPTION = """Serve a run behind an OpenAI-compatible endpoint.

The engine is vLLM where its command is installed, otherwise `transformers serve`. It takes the
place of this process: Ctrl+C or SIGTERM ends it. The export that it serves is kept in the run's
folder for the next start.
"""
KEY = "VLLM_API_KEY"  # of the environment; a key among the arguments could be read by others
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM can be prepared for
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
DECODING = {"temperature": 0.0, "max_new_tokens": None}
Engine = Literal["vllm", "transformers"]


def _parser() -> Parser:
    parser = Parser(prog="tuner serve", description=DESCRIPTION)
    parser.add_argument("run", help="name, name@version or folder of a run")
    parser.add_argument("--host", type=str, default="127.0.0.1", help="where the engine listens")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any that is free")
    parser.add_argument(
        "--engine", type=Engine | None, default=None, help="vllm where it is installed when null"
    )
    parser.add_argument(
        "--form", type=Form, default="merged", help="one model, or the adapter beside its base"
    )
    parser.add_argument(
        "--dtype", type=Dtype | None, default=None, help="type of merged weights; bfloat16"
    )
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of the runs")
    return parser


def serve(args: Sequence[str] | None) -> None:
    """Export the run if there is no export yet, and become the engine.

    Raises:
        UserError: the run, an option or the address does not fit, or there is no engine.
    """
    options = _parser().parse_args(args)
    dtype = type_of(options)
    engine = find_engine(options.engine)
    _check_host(options.host, engine)
    system = find_system(options.run, options.logs)
    if options.form == "adapter":
        _check_adapter(system, engine)
    with listen(options.host, options.port) as taken:  # before the work of an export
        port = taken.getsockname()[1]
    assert system.run is not None
    name = model_name(system.run)
    model = _exported(system, name, options.form, dtype, options.logs)
    environment = os.environ | OFFLINE
    if engine == "transformers":
        hub = model.parents[2]
        command = [sys.executable, "-P", "-m", "tuner.engine", "serve", name]
        environment["HF_HUB_CACHE"] = str(hub)
        own = [str(Path(__file__).parents[2]), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(own)  # -P leaves the folder of the start out
        os.chdir(hub)  # elsewhere, a folder of the run's name would be taken for the model
    elif options.form == "merged":
        command = _vllm([str(model), "--served-model-name", name, "--dtype", dtype])
    else:
        command = _vllm(_beside_base(system, name, model))
    at = f"[{options.host}]" if ":" in options.host else options.host
    print(f"{engine} serves {name} at http://{at}:{port}/v1; Ctrl+C ends.", flush=True)
    os.execve(command[0], [*command, "--host", options.host, "--port", str(port)], environment)


def find_engine(wanted: Engine | None) -> Engine:
    """The engine to use.

    Args:
        wanted: what the user named; null for the best that is there.

    Raises:
        UserError: it is not installed, or none is.
    """
    from transformers.utils.import_utils import is_serve_available

    if wanted != "transformers" and shutil.which("vllm"):
        return "vllm"
    if wanted == "vllm":
        raise UserError("--engine vllm: there is no command `vllm`; install vLLM, or leave it out")
    if not is_serve_available():
        raise UserError(
            "no engine to serve with: install what `transformers serve` needs with "
            "pip install -e '.[serve]', or vLLM"
        )
    return "transformers"


def _check_host(host: str, engine: Engine) -> None:
    """Refuse an address that others reach where anybody could use the model."""
    if host in LOOPBACK:
        return
    if engine == "transformers":
        raise UserError(
            f"--host {host}: `transformers serve` asks nobody for a key, so it serves this machine "
            f"alone. Allowed: {', '.join(LOOPBACK)}. For others, install vLLM, or tunnel: "
            "ssh -L 8000:localhost:8000"
        )
    if not os.environ.get(KEY, "").strip():
        raise UserError(
            f"--host {host}: everybody who reaches this address could use the model. Set a key "
            f"that clients have to give: export {KEY}=$(openssl rand -hex 32)"
        )


def _check_adapter(system: System, engine: Engine) -> None:
    """Refuse an adapter that the engine cannot put on its base."""
    merged = "leave --form merged"
    if engine == "transformers":
        raise UserError(f"--form adapter: `transformers serve` takes whole models alone; {merged}")
    if system.quantize:
        raise UserError(
            f"--form adapter: it was trained on a base in {system.quantize}, which vLLM would load "
            f"as it was before; {merged}"
        )
    config = _adapter_config(system)
    if config.get("peft_type") != "LORA" or config.get("use_dora"):
        raise UserError(f"--form adapter: vLLM takes plain LoRA, not {system.head}; {merged}")
    with intact(system.trained / "adapter_config.json"):
        rank = int(config["r"])
    if rank > RANKS[-1]:
        raise UserError(f"--form adapter: vLLM takes ranks up to {RANKS[-1]}; {merged}")


def _adapter_config(system: System) -> dict[str, Any]:
    file = system.trained / "adapter_config.json"
    with intact(file):
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def model_name(run: Path) -> str:
    """What clients call the model: the run's name, as far as a hub id can be that.

    Args:
        run: folder of the run.
    """
    name = re.sub(r"[-.]{2,}", "-", run.resolve().parent.name)[:96].strip("-.")
    return name if NAME.fullmatch(name) else "run"


def _exported(system: System, name: str, form: Form, dtype: Dtype, logs: Path) -> Path:
    """The export to serve: `RUN/served` is a hub cache that holds it under the run's name.

    So `transformers serve`, which calls a model by its place, calls it by its name, and lists it.
    """
    assert system.run is not None
    record = (system.run / "run.json").read_text(encoding="utf-8")
    made_of = [record, form, dtype, version("tuner")]
    key = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:40]  # like that of a commit
    place = system.run.resolve() / "served" / f"models--{name}"
    folder = place / "snapshots" / key
    try:
        (place / "refs").mkdir(parents=True, exist_ok=True)
        with FileLock(system.run / ".served.lock"), exit_on_sigterm():
            if folder.is_dir():
                check_sums(folder)
            else:
                announce(system, form, dtype)
                check, _ = release(system, folder, form=form, dtype=dtype, logs=logs)
                print(f"Checked: {check}.", flush=True)
            if form == "merged":
                (place / "refs" / "main").write_text(key, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {place.parent}: {error.strerror or error}") from error
    if not (folder / "chat_template.jinja").is_file():
        print(
            "warning: no chat template writes prompts as the run reads them: chats are refused; "
            f"send whole prompts to /v1/completions, as {folder / 'prompt.json'} shows",
            file=sys.stderr,
        )
    return folder


def _vllm(model: list[str]) -> list[str]:
    program = shutil.which("vllm")
    assert program is not None
    # Greedy like the run's evaluation where a request says nothing, and as long as it says; by
    # default, the pages of every site could read the replies.
    own = ["--override-generation-config", json.dumps(DECODING), "--allowed-origins", "[]"]
    return [program, "serve", *model, *own]


def _beside_base(system: System, name: str, adapter: Path) -> list[str]:
    """The adapter on its base, which is served as `base`."""
    rank = next(one for one in RANKS if one >= _adapter_config(system)["r"])
    revision = ["--revision", system.revision] if system.revision else []
    # Words, template and stop tokens are those of the run, not of the base.
    own = ["--tokenizer", str(adapter), "--generation-config", str(adapter)]
    lora = ["--enable-lora", "--lora-modules", f"{name}={adapter}", "--max-lora-rank", str(rank)]
    return [locate(system.base), *revision, "--served-model-name", "base", *own, *lora]


def main(args: Sequence[str] | None = None) -> int:
    """Serve a run.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code.
    """
    return run(lambda: serve(args))
