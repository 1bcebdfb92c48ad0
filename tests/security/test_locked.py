"""What is installed is what was locked, and never one of the releases that carried an attack."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RANGES = [
    Requirement(one)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for one in group
]
SPOILT = ("2.6.2", "2.6.3")  # of lightning, on the index for hours in 2026: they stole credentials


def pins(name: str) -> dict[str, Version]:
    """The versions that a file settles, by name."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)", text, re.MULTILINE)
    versions = {canonicalize_name(package): Version(version) for package, version in found}
    assert len(found) == len(versions), "each once"
    return versions


CONSTRAINTS, LOCK = pins("constraints.txt"), pins("requirements.lock")
TOOLS = ("uv", "pip-audit")


def entries() -> Iterator[tuple[str, list[str]]]:
    """Each requirement of the lock, with its hashes."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.split()[0], re.findall(r"--hash=(\S+)", line)


def test_each_locked_package_has_hashes() -> None:
    found = dict(entries())
    assert len(found) == len(LOCK) > 100
    for requirement, hashes in found.items():
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement


def test_the_lock_is_the_constraints_and_both_are_within_the_ranges() -> None:
    shared = CONSTRAINTS.keys() & LOCK.keys()
    assert {name: LOCK[name] for name in shared} == {name: CONSTRAINTS[name] for name in shared}
    # torch depends on the machine; the others are for systems that the tests do not run on. What
    # writes and audits the lock is no part of it.
    assert CONSTRAINTS.keys() - LOCK.keys() <= {"torch", *TOOLS}
    for one in RANGES:
        name = canonicalize_name(one.name)
        if name not in ("tuner", "torch"):
            assert one.specifier.contains(LOCK[name]), one
            assert one.specifier.contains(CONSTRAINTS[name]), one
    (torch,) = [one for one in RANGES if one.name == "torch"]
    assert torch.specifier.contains(CONSTRAINTS["torch"])


def test_what_writes_and_audits_the_lock_is_pinned() -> None:
    assert {*TOOLS} <= CONSTRAINTS.keys()
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    for tool in TOOLS:
        (line,) = [one for one in lines if one.endswith(f" {tool}") and "pip install" in one]
        assert "--constraint constraints.txt" in line


def test_what_the_locked_packages_need_is_locked() -> None:
    """As far as this machine has them: an install without it would be one of unknown files."""
    missing: set[str] = set()
    for name in LOCK:
        try:
            needs = distribution(name).requires or []
        except ModuleNotFoundError:
            continue
        for one in map(Requirement, needs):
            needed = canonicalize_name(one.name)
            if (one.marker is None or one.marker.evaluate({"extra": ""})) and needed != "torch":
                missing |= {needed} - LOCK.keys()
    assert not missing


@pytest.mark.parametrize("name", ["lightning", "pytorch-lightning"])
def test_releases_that_carried_an_attack_cannot_be_resolved(name: str) -> None:
    assert CONSTRAINTS[name] == LOCK[name] >= Version("2.6.6")
    asked = [one for one in RANGES if canonicalize_name(one.name) == name]
    assert asked
    for one in asked:
        for version in (*SPOILT, "2.6.4", "2.6.5", "2.6.6rc1", "2.6.6.dev0", "2.5.0", "1.9.5"):
            assert not one.specifier.contains(version, prereleases=True), version
        assert one.specifier.contains("2.6.6")


def test_nothing_is_built_by_what_is_not_locked(tmp_path: Path) -> None:
    """Else pip would fetch the tools that build a package without looking at their hashes."""
    made = subprocess.run(
        ["make", "--dry-run", "locked"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.replace("\\\n", " ")
    installs = [line for line in made.splitlines() if "pip install" in line]
    builds = [line for line in installs if "torch" not in line and ".venv/builds" not in line]
    assert len(builds) == 2, "the lock and this project"
    assert all("--no-build-isolation" in line for line in builds)
    (extract,) = [line for line in made.splitlines() if line.strip().startswith("sed ")]
    command = extract.strip().replace(".venv/builds", str(tmp_path / "builds"))
    subprocess.run(command, shell=True, cwd=ROOT, check=True)
    assert (tmp_path / "builds").read_text().split()[0] == f"setuptools=={LOCK['setuptools']}"
    assert "--hash=sha256:" in (tmp_path / "builds").read_text()
