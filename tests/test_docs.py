"""What the documentation says exists, and its tables are those of the result files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_tables_are_those_of_the_result_files() -> None:
    command = [sys.executable, "benchmarks/tables.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0, (
        "run: python benchmarks/tables.py"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_configs_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    configs = set(re.findall(r"configs/[\w/]+\.yaml", text))
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [config for config in configs if not (ROOT / config).exists()]
    assert not missing


def test_readme_starts_with_the_two_commands_and_a_table() -> None:
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:30]
    assert any(line.strip().startswith("make demo") for line in first_screen)
    assert any(line.strip().startswith("make test") for line in first_screen)
    assert sum(line.startswith("|") for line in first_screen) >= 3


def test_the_head_of_the_guide_works(
    fit: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "guide_head.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = fit("--model.head=guide_head.LoHa", "--trainer.max_steps=1")
    assert "LOHA" in (run / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
