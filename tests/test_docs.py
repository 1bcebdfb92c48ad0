"""What the documentation says exists, and its tables are those of the result files."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tuner.backbone import load_base
from tuner.evaluation.metric import select_metrics
from tuner.evaluation.predictions import Prediction

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


def test_the_classes_of_the_guide_work(
    fit: Callable[..., Path], tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    classes = re.findall(r"```python\n(.*?class (\w+)\(.*?)```", guide, re.DOTALL)
    for code, name in classes:
        (tmp_path / f"guide_{name.lower()}.py").write_text(code, encoding="utf-8")
    assert [name for _, name in classes] == ["LoHa", "Notes", "Thanks"]
    monkeypatch.syspath_prepend(str(tmp_path))

    notes = tmp_path / "notes.csv"
    rows = [
        f"{n % 9},Where is {n}?,It is at {n}.,{'solved' if n % 4 else 'open'}" for n in range(40)
    ]
    notes.write_text("\n".join(["ticket,question,solution,state", *rows, "9,Why?,,solved"]))
    options = ["--model.head=guide_loha.LoHa", "--data.source=guide_notes.Notes"]
    run = fit(*options, f"--data.source.path={notes}", "--trainer.max_steps=1")
    assert "LOHA" in (run / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
    card = json.loads((run / "data_card.json").read_text(encoding="utf-8"))
    assert card["rows_in"] == 41
    assert card["dropped"] == {"not_solved": 10, "no_prompt": 1}

    head = importlib.import_module("guide_loha").LoHa()
    settings = dict.fromkeys(("gradient_checkpointing", "init_adapter", "from_scratch"), False)
    for quantize in ("nf4", "int8"):  # works or is refused, as the contract of heads has it
        if not head.impossible({**settings, "sharded": False, "quantize": quantize}):
            model = head.apply(load_base(str(tiny_base), quantize=quantize))
            assert model(input_ids=torch.arange(3, 23)[None]).logits.isfinite().all()

    (metric,) = select_metrics(["guide_thanks.Thanks"]).values()
    said = [
        Prediction(
            system="base",
            id=text,
            category="",
            prompt="Hi",
            reference="Hi",
            prediction=text,
            stop_reason="eos",
            new_tokens=2,
            seconds=0.1,
        )
        for text in ("Thanks!", "No.")
    ]
    assert metric.score(said)["thanks"].rows.tolist() == [1.0, 0.0]


def literals() -> list[str]:
    """Texts of the package with a mark for what is filled in."""
    found: list[str] = []
    for file in (ROOT / "tuner").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [n.value if isinstance(n, ast.Constant) else "…" for n in node.values]
                found.append("".join(map(str, parts)))
    return found


def test_messages_of_the_troubleshooting_are_those_of_the_program() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.M)
    texts = literals()
    unknown = [
        one
        for one in quoted
        if not any(re.search(".+?".join(map(re.escape, one.split("…"))), text) for text in texts)
    ]
    assert len(quoted) > 20
    assert not unknown
