"""Recipes through the real hub clients, against a hub on this machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from published import write_sets
from transformers import GPT2Config, MistralConfig, PhiConfig, Qwen2Config

ROOT = Path(__file__).parent.parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def hub_folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the hub serves: Dolly, Bitext, MedQuAD and a small TinyLlama stand-in by their names."""
    folder = tmp_path_factory.mktemp("hub")
    subprocess.run([sys.executable, shared / "tools" / "make_hub.py", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def hub(shared: Path, hub_folder: Path) -> Iterator[str]:
    """Address of the hub."""
    port = _free_port()
    command = [sys.executable, shared / "tools" / "local_hub.py", hub_folder, "--port", str(port)]
    server = subprocess.Popen(command)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait()


def called(hub: str, folder: Path, *command: str) -> str:
    """Runs a Python command as a user who reads that hub, and gives what it wrote to stderr."""
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def test_lora_recipe_runs_from_the_hub(hub: str, tmp_path: Path) -> None:
    command = ["train.py", "fit", "--config", "configs/lora.yaml"]
    command += ["--trainer.default_root_dir", str(tmp_path / "logs"), "--trainer.max_steps", "2"]
    command += ["--data.source.limit", "300", "--samples.max_new_tokens", "4"]
    called(hub, tmp_path, *command)
    run = tmp_path / "logs" / "lora" / "version_0"
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["steps"] == 2
    assert len(record["weights_sha256"]) == 64
    card = json.loads((run / "data_card.json").read_text())
    assert card["rows_in"] == 15011
    assert card["source"]["hub"] == "databricks/databricks-dolly-15k"
    assert len(card["source"]["commit"]) == 40
    assert (run / "adapter" / "adapter_model.safetensors").is_file()


# Several runs in one process: what takes long is the import.
RUNS = """
import json, sys
from tuner.cli import main
for options in json.loads(sys.argv[1]):
    sys.argv = ["train.py"]
    assert main(["fit", *options]) == 0, options
"""


def runs(hub: str, folder: Path, commands: list[list[str]]) -> str:
    """Takes two steps of each command, in small batches."""
    limits = ["--trainer.max_steps=2", "--trainer.limit_val_batches=1", "--samples.count=0"]
    limits += ["--data.val_size=0.2", "--data.test_size=0.2", "--data.batch_size=2"]
    limits += ["--trainer.enable_progress_bar=false", f"--data.cache_dir={folder}/cache"]
    limits += [f"--trainer.default_root_dir={folder}/logs", "--data.source.limit=60"]
    return called(hub, folder, "-c", RUNS, json.dumps([[*one, *limits] for one in commands]))


SMALL: dict[str, Any] = {
    "vocab_size": 4096, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 512, "intermediate_size": 96,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
# Each base by its name: its configuration, and what it calls the layers that the recipe names.
OTHERS: dict[str, tuple[Any, set[str]]] = {
    "mistralai/Mistral-7B-Instruct-v0.2": (
        MistralConfig(**SMALL, num_key_value_heads=2),
        {"q_proj", "v_proj"},
    ),
    "microsoft/phi-2": (PhiConfig(**SMALL), {"q_proj", "v_proj"}),
    "openai-community/gpt2": (GPT2Config(**SMALL), {"c_attn"}),
    "Qwen/Qwen2.5-0.5B-Instruct": (
        Qwen2Config(**SMALL, num_key_value_heads=2),
        {"q_proj", "v_proj"},
    ),
}


def test_a_recipe_runs_on_other_bases_by_one_flag(
    hub: str, hub_folder: Path, make_base: Callable[..., Path], tmp_path: Path
) -> None:
    for base, (config, _) in OTHERS.items():
        shutil.copytree(make_base(config=config), hub_folder / "models" / base)
    sets = write_sets(tmp_path)
    recipe = ["--config=configs/recipes/support_qlora_r8.yaml"]
    recipe += [f"--data.source.path={sets['TwitterSupport']}"]
    names = {base: base.split("/")[0] for base in OTHERS}
    said = runs(
        hub,
        tmp_path,
        [[*recipe, f"--model.base={base}", f"--name={name}"] for base, name in names.items()],
    )
    assert "in a GPT2LMHeadModel, q_proj is c_attn, v_proj is c_attn" in said
    for base, (_, layers) in OTHERS.items():
        run = tmp_path / "logs" / names[base] / "version_0"
        record = json.loads((run / "run.json").read_text())
        assert (record["base"], record["quantize"], record["steps"]) == (base, "nf4", 2)
        adapter = json.loads((run / "adapter" / "adapter_config.json").read_text())
        assert set(adapter["target_modules"]) == layers


RECIPES = sorted((ROOT / "configs" / "recipes").glob("*.yaml"))
QUICK = ("bitext_intent_nf4", "support_prompt_10")  # the others take a minute
OTHER = [recipe.stem for recipe in RECIPES if recipe.stem not in QUICK]


@pytest.mark.parametrize("names", [QUICK, pytest.param(OTHER, marks=pytest.mark.slow)])
def test_recipes_run_on_tinyllama(hub: str, tmp_path: Path, names: list[str]) -> None:
    sets = write_sets(tmp_path)
    base = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    commands: list[list[str]] = []
    for name in names:
        command = [f"--config=configs/recipes/{name}.yaml", f"--model.base={base}"]
        if name.startswith("support_"):  # the others are on the hub or shipped
            command.append(f"--data.source.path={sets['TwitterSupport']}")
        commands.append(command)
    runs(hub, tmp_path, commands)
    for name in names:
        run = tmp_path / "logs" / name / "version_0"
        record = json.loads((run / "run.json").read_text())
        assert (record["status"], record["base"], record["steps"]) == ("finished", base, 2)
        source = json.loads((run / "data_card.json").read_text())["source"]
        assert ("hub" in source) == name.startswith(("formal_email", "bitext"))
