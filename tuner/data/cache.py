"""Prepared data on disk, found again by a hash of everything that shaped it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from tuner.data.curate import Curated
from tuner.errors import UserError
from tuner.plugins import settings_of
from tuner.sums import SUMS, sums_of, write_sums

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OWN, LOCK = "tuner-data-", ".lock"  # of a folder that ends with its process


def cached(key: str, folder: Path | None, build: Callable[[Path], Curated]) -> Curated:
    """The prepared data of a key, built when it is not there.

    Processes that ask at the same time wait for the first one. A preparation that fails or is
    killed leaves nothing that could be taken for a whole one. An entry whose files have changed
    since is made anew.

    Args:
        key: hash of everything that shapes the data.
        folder: of the cache; a folder that ends with the process when null.
        build: prepares the data in an empty folder.
    """
    if folder is None:
        return build(_own_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / f"{key}.lock").acquire()
    except OSError as error:
        raise UserError(
            f"data.cache_dir: cannot write to {folder}: {error.strerror or error}; name another "
            "folder, or null for none"
        ) from error
    with held:
        _sweep(folder.glob("*.part"), lambda left: left.with_suffix(".lock"))
        target = folder / key
        if (found := _opened(target)) is None:
            part = folder / f"{key}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            try:
                build(part)
                write_sums(part)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
            shutil.rmtree(target, ignore_errors=True)
            part.rename(target)
            found = Curated.open(target)
        os.utime(target)  # so that the oldest can be found and deleted
        return found


def _opened(folder: Path) -> Curated | None:
    """What an earlier preparation left; null where that is nothing, or not as it was written."""
    try:
        listed = (folder / SUMS).read_text(encoding="utf-8")
        # First, as Arrow may end the process over what is damaged, or give other rows.
        return Curated.open(folder) if listed == sums_of(folder) else None
    except Exception:  # nothing there, no list, or a disk that fails; it is made anew
        return None


def _own_folder() -> Path:
    """A folder that ends with this process, or else with the next one that asks for such a one."""
    place = Path(tempfile.gettempdir())
    # One process at a time, or a folder could be taken for left before it is locked.
    with FileLock(place / f"{OWN}{os.getuid()}.lock"):
        _sweep(place.glob(f"{OWN}*/"), lambda left: left / LOCK)
        own = tempfile.TemporaryDirectory(prefix=OWN)
        lock = FileLock(Path(own.name) / LOCK)
        lock.acquire()
    _KEPT.append((own, lock))
    return Path(own.name)


def _sweep(found: Iterable[Path], lock_of: Callable[[Path], Path]) -> None:
    """Remove what killed preparations have left: nobody holds its lock any more."""
    for left in found:
        with suppress(Timeout, OSError), FileLock(lock_of(left), timeout=0):
            shutil.rmtree(left, ignore_errors=True)


_KEPT: list[tuple[tempfile.TemporaryDirectory[str], FileLock]] = []  # deleted when the process ends


def key_of(parts: dict[str, Any], tokenizer: PreTrainedTokenizerBase, plugins: list[object]) -> str:
    """Hash of everything that shapes prepared data: 32 hexadecimal digits.

    Args:
        parts: settings and provenance, as plain JSON values.
        tokenizer: its vocabulary, rules, special tokens and template count.
        plugins: source and prompt; their settings and the code that defines them count.
    """
    backend: Any = tokenizer.backend_tokenizer
    shape = {
        **parts,
        "tokenizer": _sha256(backend.to_str()),
        "template": tokenizer.chat_template,
        "special": {key: str(token) for key, token in tokenizer.special_tokens_map.items()},
        "plugins": [settings_of(plugin) for plugin in plugins],
        "code": [_code(), *(_file_hash(_file_of(plugin)) for plugin in plugins)],
        "versions": {p: version(p) for p in ("tokenizers", "transformers", "datasketch")},
    }
    return _sha256(json.dumps(shape, sort_keys=True, default=str))[:32]


def _file_of(plugin: object) -> Path | None:
    name = getattr(sys.modules.get(type(plugin).__module__), "__file__", None)
    return Path(name) if name else None


@cache
def _code() -> str:
    """Hash of this package's code."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return _sha256("".join(_file_hash(file) for file in files))


@cache
def _file_hash(file: Path | None) -> str:
    return _sha256(file.read_text(encoding="utf-8")) if file else ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
