"""The options of `fit`, for tools that look at a run before it is one."""

from __future__ import annotations

from typing import Any

from lightning import Trainer

from tuner.cli import TunerCLI


class FitOptions(TunerCLI):
    """Takes the options of `fit` and makes what they describe, but for a trainer and a run."""

    def before_instantiate_classes(self) -> None:
        """There is no run to name."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """There is no training: its devices need not be here."""
        return None  # pyright: ignore[reportReturnType]

    def _run_subcommand(self, subcommand: str) -> None:
        # Everything that the tool needs is there now.
        return
