"""SHA-256 of exported weights: a file that was changed since is noticed before it is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tuner.errors import UserError, intact

SUMS = "SHA256SUMS"  # as sha256sum writes and checks it


def write_sums(folder: Path) -> None:
    """List the SHA-256 of a folder's weights."""
    lines = [f"{_sha256(file)}  {file.name}\n" for file in _weights(folder)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path) -> None:
    """Refuse weights that are not those of the list; a folder without one is taken as it is.

    Raises:
        UserError: a file was changed since, or is not in the list.
    """
    listed = folder / SUMS
    if not listed.is_file():  # of another tool, or of a run from before there was a list
        return
    with intact(listed):
        lines = listed.read_text(encoding="utf-8").strip().splitlines()
        pairs = [line.split(maxsplit=1) for line in lines]
        digests = {name.removeprefix("*"): digest for digest, name in pairs}  # * is for bytes
    for file in _weights(folder):
        if digests.get(file.name) != _sha256(file):
            raise UserError(
                f"{file}: not as it was written: its SHA-256 is not that in {SUMS}. Copy it anew "
                f"from where it is whole, or train again: fit --config {folder.parent}/config.yaml"
            )


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
