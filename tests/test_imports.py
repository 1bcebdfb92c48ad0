"""Imports cost what they must and no more; rooms find their files."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import tuner
from tuner.data.prompts import Prompt
from tuner.data.sources import Source
from tuner.heads import Head
from tuner.plugins import subclasses


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, tuner; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_reading_a_config_imports_no_peft_and_no_model_code() -> None:
    """Both take seconds; a wrong key should be answered before."""
    code = """
import sys
sys.argv = ["train.py"]
from tuner.cli import main
code = main(["fit", "--config", "configs/demo.yaml", "--data.source.path", "nothere.jsonl"])
heavy = [m for m in ("peft", "bitsandbytes", "datasets") if m in sys.modules]
assert code == 2 and not heavy, (code, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_module_imports() -> None:
    for module in pkgutil.walk_packages(tuner.__path__, "tuner."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_rooms_hold_what_their_files_define() -> None:
    assert {"Full", "LoRA"} <= subclasses(Head).keys()
    assert {"Bitext", "Conversations", "Dolly", "MedQuAD", "Mixture"} <= subclasses(Source).keys()
    assert "Chat" in subclasses(Prompt)
    assert "PeftHead" not in subclasses(Head), "a class that states no configuration is no head"
