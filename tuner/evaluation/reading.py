"""A comparison's results.json, read back, and whether it goes with the predictions beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuner.errors import UserError, intact
from tuner.sums import sha256_of

SCHEMA = 1  # form of results.json: the one that is written, and read
MADE_OF = "predictions_sha256"  # key of results.json


def read_results(folder: Path) -> dict[str, Any]:
    """The content of a comparison's results.json.

    Raises:
        UserError: it cannot be read, or is of another version.
    """
    file = folder / "results.json"
    try:
        with intact(file):
            results = json.loads(file.read_text(encoding="utf-8"))
            schema = results["schema"]
    except OSError as error:
        raise UserError(f"cannot read {file}: {error}") from error
    if schema != SCHEMA:
        raise UserError(
            f"{file}: schema: {schema!r:.80} is of another version of tuner; this one reads "
            f"{SCHEMA}. Read it with the version that wrote it, or run eval.py again"
        )
    return results


def check_predictions(folder: Path, results: dict[str, Any]) -> None:
    """Refuse predictions.jsonl where a comparison's results were made of another one.

    Results of before their hash was written down are taken as they are.

    Raises:
        UserError: they do not fit each other, or the file cannot be read.
    """
    file = folder / "predictions.jsonl"
    try:
        fits = results.get(MADE_OF) in (None, sha256_of(file))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error}") from error
    if not fits:
        raise UserError(
            f"{file}: not what results.json was made of: a comparison was stopped while it wrote "
            "them, or one of them was changed since. Run eval.py again"
        )
