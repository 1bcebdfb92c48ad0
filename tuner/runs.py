"""Run folders: `ROOT/NAME/version_N`, claimed once, found by name."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from os.path import isfile
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only, rank_zero_warn

from tuner.checkpoint import load_checkpoint, newest
from tuner.errors import UserError, intact, nearest
from tuner.hold import LOCK, Hold, is_held

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
VERSION = re.compile(r"version_(\d+)")
# What the process of a run writes under another name first; `predict` has another file of the kind.
PARTS = (".run.json.part", ".adapter.part", ".model.part", "checkpoints/.*.part")
RUN_FOLDER = "TUNER_RUN_FOLDER"  # tells the processes of other devices what the first one claimed


def claim(root: Path, name: str) -> Path:
    """Create the next version folder of a name; two runs that start together get two folders.

    Raises:
        UserError: the name is no plain file name, or the folder cannot be written.
    """
    try:
        inside(root, name).mkdir(parents=True, exist_ok=True)
        number = max(_versions(root / name), default=-1) + 1
        while True:
            folder = root / name / f"version_{number}"
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                break
    except OSError as error:
        raise UserError(
            f"trainer.default_root_dir: cannot write to {root}: {error.strerror}"
        ) from error
    _tidy(_versions(root / name).values())
    return folder


def _tidy(folders: Iterable[Path]) -> None:
    """Remove what killed runs have left half written."""
    for folder in folders:
        if (folder / LOCK).is_file() and not is_held(folder):
            for part in [one for pattern in PARTS for one in folder.glob(pattern)]:
                with suppress(OSError):
                    shutil.rmtree(part) if part.is_dir() else part.unlink()


def inside(root: Path, name: str) -> Path:
    """The folder of a name.

    Raises:
        UserError: it is no plain file name, or a link that leads out of the root.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"name: '{name}' is not allowed; use letters, digits, '.', '_' and '-', starting with "
            "a letter or digit"
        )
    folder = root / name
    if not folder.resolve().is_relative_to(root.resolve()):
        raise UserError(f"name: {folder} is a link that leads out of {root}; take another name")
    return folder


def claim_for_all(root: Path, name: str) -> tuple[Path, Hold | None]:
    """Claim and hold a folder in the first process; the others hear of it.

    Processes that the first one starts find it in their environment. The rest, on other machines,
    get a path that stands for it until all have agreed.

    Returns:
        The folder and, in the first process, what holds it.
    """
    if getattr(rank_zero_only, "rank", 0) == 0:
        folder = claim(root, name)
        os.environ[RUN_FOLDER] = str(folder)
        return folder, Hold(folder)
    return Path(os.environ.get(RUN_FOLDER, root / name / "version_0")), None


def _versions(folder: Path) -> dict[int, Path]:
    """Version folders by number, lowest first."""
    found = {int(m[1]): p for p in folder.glob("*") if (m := VERSION.fullmatch(p.name))}
    return dict(sorted(found.items()))


def every_run(root: Path) -> list[Path]:
    """The version folders of all names, by name, lowest version first."""
    names = sorted(folder for folder in root.glob("*") if folder.is_dir())
    found = [version for folder in names for version in _versions(folder).values()]
    return [version for version in found if version.is_dir()]


def versions_of(root: Path, name: str) -> list[Path]:
    """The version folders of a name, newest first.

    Raises:
        UserError: no run of this name.
    """
    found = list(_versions(root / name).values())[::-1] if NAME.fullmatch(name) else []
    if not found:
        known = [p.name for p in root.glob("*") if p.is_dir() and _versions(p)]
        hint = nearest(name, known) if known else "There are no runs yet: train.py fit makes one."
        raise UserError(f"no run named '{name}' in {root}. {hint}")
    return found


def find_run(spec: str, root: Path) -> Path:
    """The run that a user means: a run folder as it is, or the newest finished run of a name.

    Raises:
        UserError: there is none, or it has not finished.
    """
    folder = Path(spec)
    if isfile(folder / "run.json"):  # false of what cannot be a path, too
        return folder
    if "/" in spec or spec.startswith("."):
        raise UserError(f"{spec} is no run folder: it holds no run.json")
    for folder in versions_of(root, spec):
        if read_record(folder).get("status") == "finished":
            return folder
    raise UserError(f"no run named '{spec}' in {root} has finished")


def find_runs(spec: str, root: Path) -> list[tuple[str, Path]]:
    """The runs that a user means, with what to call them.

    Args:
        spec: `lora` (the newest finished run), `lora@2` (its version_2), `lora@*` (every finished
            one), or a run's folder.
        root: folder of the runs.

    Raises:
        UserError: there is none, or it has not finished.
    """
    name, _, version = spec.rpartition("@")
    if not name or isfile(Path(spec) / "run.json"):
        folder = find_run(spec, root)
        return [(spec if folder != Path(spec) else f"{folder.parent.name}/{folder.name}", folder)]
    versions = _versions(root / name) if NAME.fullmatch(name) else {}
    found = [
        (f"{name}@{number}", folder)
        for number, folder in versions.items()
        if version in ("*", str(number)) and read_record(folder).get("status") == "finished"
    ]
    if not found:
        versions_of(root, name)  # says which names there are
        raise UserError(f"no run '{spec}' in {root} has finished")
    return found


def find_checkpoint(which: str, root: Path, name: str) -> Path:
    """The `last` or `best` checkpoint of the newest run of a name that has a whole one.

    Raises:
        UserError: there is none.
    """
    file = whole_checkpoint(which, versions_of(root, name))
    if file is None:
        raise UserError(f"ckpt_path: no run named '{name}' in {root} has a whole {which}.ckpt")
    return file


def whole_checkpoint(which: str, folders: Iterable[Path]) -> Path | None:
    """The `last` or `best` checkpoint of the first of some runs that has a whole one; or null.

    For `last`, a file that is spoilt is passed over with a warning: the run's next older one is
    taken, or that of the next run.
    """
    for folder in folders:
        folder = folder / "checkpoints"
        for file in newest(folder) if which == "last" else [folder / f"{which}.ckpt"]:
            if file.is_file():
                try:
                    load_checkpoint(file)
                except UserError as error:
                    rank_zero_warn(f"{error}; passed over")
                else:
                    return file
    return None


def read_record(folder: Path) -> dict[str, Any]:
    """The run.json of a run; empty when there is none or it is cut off."""
    try:
        if not (folder / "run.json").is_file():  # a pipe would be waited for
            return {}
        found = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write the run.json of a run in one step, so that a reader never sees half of it."""
    part = folder / ".run.json.part"
    part.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(folder / "run.json")


def read_losses(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The losses of a run by optimiser step, also while it goes on.

    Returns:
        `train` and `val`: (step, nats a token); empty where the run has none.

    Raises:
        UserError: metrics.csv holds something else.
    """
    found: dict[str, list[tuple[int, float]]] = {"train": [], "val": []}
    file = folder / "metrics.csv"
    if file.is_file():
        with intact(file), file.open(encoding="utf-8", newline="") as lines:
            # A line without an end is being written.
            whole = (line for line in lines if line.endswith("\n"))
            for row in csv.DictReader(whole):
                for name, points in found.items():
                    if row.get("step") and (loss := row.get(f"{name}_loss")):
                        points.append((int(row["step"]), float(loss)))
    return found
