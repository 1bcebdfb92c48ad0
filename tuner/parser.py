"""The argument parser of every command: errors become one clear message."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from tuner.errors import UserError
from tuner.messages import explain


class Parser(LightningArgumentParser):
    """Raises `UserError` with a nearest match instead of printing its usage and exiting."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Translate what jsonargparse found.

        Raises:
            UserError: always.
        """
        raise UserError(explain(message, self)) from ex
