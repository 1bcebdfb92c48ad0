"""Checkpoint files that a crash cannot spoil: whole, listed with their checksum, or refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from typing_extensions import override

from tuner.errors import UserError
from tuner.sums import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

MANIFEST = "manifest.json"
KEPT = 3  # checksums of each name: of the file, of the one before, and of one a crash left over


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a name always holds a whole checkpoint.

    The checksum goes into `manifest.json` before the file gets its name: what has a name is
    listed, and what is not listed was changed since. Lightning's own way passes through the
    system's temporary folder, which is not atomic where that is another file system. Loading
    never runs code from the file.
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write, flush to the disk, list the checksum, then rename.

        Raises:
            UserError: the disk is full or the folder cannot be written; the file that had the name
                before is as it was.
        """
        target = Path(path)
        part = _part(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                whole = _Hashing(file)
                try:
                    torch.save(checkpoint, cast("Any", whole))
                except RuntimeError as error:  # torch's word for what the file said
                    raise whole.error or error from error
                file.flush()
                os.fsync(file.fileno())
            _list(target, whole.sha256.hexdigest(), int(checkpoint.get("global_step", 0)))
            _rename(part, target)
        except OSError as error:
            raise UserError(
                f"{target}: cannot write the checkpoint: {error.strerror}. What was saved before "
                "is whole: go on with --ckpt_path last once there is room"
            ) from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    @override
    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load tensors and plain values only.

        Raises:
            UserError: the file is missing, cut off, or holds something else.
        """
        return load_checkpoint(Path(path))


class _Hashing:
    """A file that takes the SHA-256 of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            self.file.write(content)
        except OSError as error:
            self.error = error
            raise
        self.sha256.update(content)
        return len(content)

    def flush(self) -> None:
        self.file.flush()


def place(source: Path, target: Path) -> None:
    """Give a checkpoint a second name or another folder, in one step.

    Args:
        source: a whole checkpoint.
        target: where it is to stand; what stood there is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _part(target)
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, part)
    if not target.exists() or not os.path.samefile(part, target):
        digest = sha256_of(part)
        step = next((e["step"] for e in _entries(source.parent) if e["sha256"] == digest), 0)
        _list(target, digest, step)
        _rename(part, target)
    part.unlink(missing_ok=True)


def newest(folder: Path) -> Iterator[Path]:
    """The checkpoint files of a run: `last.ckpt`, then the others, that of the latest step first.

    Args:
        folder: the run's `checkpoints` folder.
    """
    steps = {entry["name"]: entry["step"] for entry in _entries(folder)}
    files = [file for file in folder.glob("*.ckpt") if not file.name.startswith(".")]
    yield from sorted(
        files, key=lambda f: (f.name == "last.ckpt", steps.get(f.name, -1)), reverse=True
    )


def load_checkpoint(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """A checkpoint's content, on the CPU.

    Args:
        path: the file.
        mapped: leave tensors in the file until they are used; it must not change while they live.

    Raises:
        UserError: the file is missing, cut off, changed since it was written, or holds more than
            tensors and plain values.
    """
    if not path.is_file():
        raise UserError(f"ckpt_path: no such file: {path}. Allowed: last, best, or a .ckpt file")
    try:
        _check(path)
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # zip, pickle and torch each raise their own
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"ckpt_path: {path} is no usable checkpoint ({reason})") from error
    if not isinstance(found, dict) or not {"tuner", "state_dict"} <= found.keys():
        raise UserError(f"ckpt_path: {path} is no checkpoint of this project's fit")
    return found


def _check(path: Path) -> None:
    """Compare with the checksum of the folder's manifest, or else with those inside the file."""
    # Hashed first: a run that goes on lists a new file before it renames it.
    digest = sha256_of(path)
    entries = _entries(path.parent)
    if any(entry["name"] == path.name for entry in entries):
        if not any(entry["sha256"] == digest for entry in entries):
            raise ValueError(f"its checksum is not in {MANIFEST}: cut off, or changed since")
        return
    with zipfile.ZipFile(path) as archive:  # torch.load itself checks no checksums
        if (spoilt := archive.testzip()) is not None:
            raise ValueError(f"checksum of {spoilt} is wrong")


def _entries(folder: Path) -> list[dict[str, Any]]:
    """Name, SHA-256 and step of what was written to a folder, oldest first."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["checkpoints"]
        kinds = {"name": str, "sha256": str, "step": int}
        return [e for e in found if all(isinstance(e[key], kind) for key, kind in kinds.items())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []  # spoilt: the checksums inside the files are left


def _list(target: Path, sha256: str, step: int) -> None:
    entries = _entries(target.parent)
    own = [entry for entry in entries if entry["name"] == target.name]
    kept = [entry for entry in entries if entry["name"] != target.name]
    kept += [*own[-KEPT + 1 :], {"name": target.name, "sha256": sha256, "step": step}]
    part = _part(target.parent / MANIFEST)
    with part.open("w", encoding="utf-8") as file:
        json.dump({"checkpoints": kept}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    _rename(part, target.parent / MANIFEST)


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _rename(part: Path, target: Path) -> None:
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name, too, is to survive a power cut
    finally:
        os.close(folder)


def refuse_misfit(
    checkpoint: Mapping[str, Any], own: Mapping[str, Any], trained: Mapping[str, torch.Tensor]
) -> None:
    """Refuse a checkpoint of another base or head, or one that lacks a weight.

    Args:
        checkpoint: the content of the file.
        own: what the run's checkpoints belong to (base, revision, quantize, head, weights_sha256).
        trained: the run's trained weights by name.

    Raises:
        UserError: it does not fit.
    """
    parts = ("loops", "optimizer_states", "lr_schedulers", "global_step", "head")
    if lacking := [part for part in parts if part not in checkpoint]:
        raise UserError(
            f"ckpt_path: the file lacks {', '.join(lacking)}, without which no run goes on"
        )
    if len(checkpoint["optimizer_states"]) != 1:
        raise UserError("ckpt_path: the file holds no state of the optimiser")
    found = dict(checkpoint["tuner"])
    # A base is known by its weights; by its name where these are not at hand.
    same = ["quantize", "head"]
    by_hash = found.get("weights_sha256") and own["weights_sha256"]
    same += ["weights_sha256"] if by_hash else ["base", "revision"]
    if any(found.get(key) != own[key] for key in same):
        raise UserError(f"ckpt_path: made for {found}, but this run has {own}")
    shapes = {name: tuple(p.shape) for name, p in trained.items()}
    saved = {name: tuple(t.shape) for name, t in checkpoint["state_dict"].items()}
    differing = sorted({name for name, _ in shapes.items() ^ saved.items()})
    if differing:
        name = differing[0]
        raise UserError(
            f"ckpt_path: {len(differing)} weights do not fit the head, such as {name}: shape "
            f"{saved.get(name, 'missing')} in the file, {shapes.get(name, 'none')} here"
        )
