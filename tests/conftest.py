"""The whole suite runs offline: any connection but one to this machine is an error."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parent.parent
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


@pytest.fixture
def shared() -> Path:
    """Folder of real data; the test is skipped, with its reason, where it is not there."""
    if not SHARED.is_dir():
        pytest.skip(f"real data not at hand: no folder {SHARED}")
    return SHARED
