"""The literal recipe through the real hub clients, against a hub on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def hub(shared: Path, tmp_path: Path) -> Iterator[str]:
    """Address of a hub that serves Dolly and a small TinyLlama stand-in under their names."""
    folder = tmp_path / "hub"
    tools = shared / "tools"
    subprocess.run([sys.executable, tools / "make_hub.py", folder], check=True)
    port = _free_port()
    server = subprocess.Popen([sys.executable, tools / "local_hub.py", folder, "--port", str(port)])
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait()


def test_lora_recipe_runs_from_the_hub(hub: str, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "train.py", "fit", "--config", "configs/lora.yaml"]
    command += ["--trainer.default_root_dir", str(tmp_path / "logs"), "--trainer.max_steps", "2"]
    command += ["--data.source.limit", "300", "--samples.max_new_tokens", "4"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
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
