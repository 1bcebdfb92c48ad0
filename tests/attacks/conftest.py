"""What commands are attacked with: a run that has finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trained import trainer


@pytest.fixture(scope="session")
def whole(
    tmp_path_factory: pytest.TempPathFactory, rows_file: Callable[..., Path], tiny_base: Path
) -> Path:
    """A run that has finished."""
    train = trainer(tmp_path_factory.mktemp("fuzzed"), rows_file(40))
    return train("lora", f"--model.base={tiny_base}", "--trainer.max_steps=2")
