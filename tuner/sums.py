"""SHA-256 of a folder's files: one that was changed since is noticed before it is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tuner.errors import UserError, intact

SUMS = "SHA256SUMS"  # as sha256sum writes and checks it
NOT_LISTED = {SUMS, "README.md"}  # people write into their cards


def write_sums(folder: Path) -> None:
    """List the SHA-256 of a folder's files, which are all there by now."""
    (folder / SUMS).write_text(sums_of(folder), encoding="utf-8")


def sums_of(folder: Path) -> str:
    """What the list of a folder's files would say now."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    lines = [f"{sha256_of(file)}  {file.name}\n" for file in files if file.name not in NOT_LISTED]
    return "".join(lines)


def check_sums(folder: Path) -> None:
    """Refuse files that are not those of the list; a folder without one is taken as it is.

    Raises:
        UserError: a file was changed since, or holds weights and is not in the list.
    """
    listed = folder / SUMS
    if not listed.is_file():  # of another tool, or of a run from before there was a list
        return
    with intact(listed):
        lines = listed.read_text(encoding="utf-8").strip().splitlines()
        pairs = [line.split(maxsplit=1) for line in lines]
        digests = {name.removeprefix("*"): digest for digest, name in pairs}  # * is for bytes
    for file in sorted(folder.iterdir()):
        known = file.name in digests or file.suffix == ".safetensors"
        if known and digests.get(file.name) != sha256_of(file):
            raise UserError(
                f"{file}: not as it was written: its SHA-256 is not that in {SUMS}. Copy it anew "
                "from where it is whole, or make its folder again; if you changed it yourself, "
                f"remove {listed}"
            )


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
