"""Where the files of weights are, which of them may be read, and their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from os.path import exists, expanduser
from pathlib import Path

from tuner.errors import UserError, intact
from tuner.sums import sha256_of

PICO = Path(__file__).parent / "assets" / "pico"
ADAPTER = "adapter_model.safetensors"


def locate(base: str) -> str:
    """Where the base is loaded from: the folder of `pico`, a folder as it is, or a hub id."""
    if base == "pico":
        return str(PICO)
    folder = Path(expanduser(base))  # of no such user, it stays as it is
    if exists(folder):
        return str(folder)
    if base.startswith((".", "/", "~")):
        raise UserError(f"model.base: no such folder: {base}. Allowed: a folder, a hub id, or pico")
    return base


def refuse_outside(folder: Path) -> None:
    """Make sure that a base's list of files names files of its folder, which alone are hashed.

    Raises:
        UserError: it does not.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    with intact(index):
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        outside = sorted(name for name in files if Path(name).name != name)
    if outside:
        raise UserError(f"model.base: {index} names {outside[0]!r}, which is not in its folder")


@contextmanager
def no_pickle() -> Generator[None]:
    """Refuse files that are no safetensors, although a base's list of files may name them."""
    import torch

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("this is no safetensors file")

    before, torch.load = torch.load, refuse
    try:
        yield
    finally:
        torch.load = before


def refuse_pickle(folder: Path) -> None:
    """Make sure that an adapter has its weights in a safetensors file.

    Otherwise peft would load a pickle, or ask the hub for a model of the folder's name.

    Raises:
        UserError: it has none.
    """
    if not (folder / ADAPTER).is_file():
        raise UserError(f"{folder} has no {ADAPTER}; weights in other files are not loaded")


def weights_hash(base: str, revision: str | None = None) -> str | None:
    """SHA-256 over the base's safetensors files, in name order; None where there are none.

    Hub files are looked up in the local cache, so call it after loading.
    """
    folder = Path(locate(base))
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(
                snapshot_download(
                    base,
                    revision=revision,
                    allow_patterns=["*.safetensors"],
                    local_files_only=True,
                )
            )
        except Exception:  # not in the cache as a whole: no hash rather than a wrong one
            return None
    files = sorted(folder.glob("*.safetensors"))
    total = hashlib.sha256()
    for file in files:
        total.update(bytes.fromhex(sha256_of(file)))
    return total.hexdigest() if files else None
