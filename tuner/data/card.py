"""The data card: what a run was trained on, in JSON and in Markdown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.data.curate import Curated, leaks
from tuner.data.example import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUANTILES = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)


def data_card(
    curated: Curated,
    provenance: dict[str, Any],
    settings: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    """Everything that shaped the data, as plain JSON values.

    Args:
        curated: the splits and their account.
        provenance: where the rows come from.
        settings: the data module's settings.
        tokenizer: what the token counts were made with.
    """
    template = str(tokenizer.chat_template or "")
    kept = sum(len(rows) for rows in curated.splits.values())
    return {
        "source": provenance,
        "settings": settings,
        "tokenizer": {
            "name": Path(tokenizer.name_or_path).name,
            "vocabulary": len(tokenizer),
            "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        },
        "rows_in": curated.seen,
        "rows_out": kept,
        "dropped": dict(curated.dropped.most_common()),
        "rejected": [f"{item.where}: {item.reason}" for item in curated.rejected[:20]],
        "truncated": 0,  # rows are dropped whole, never cut
        "token_length_quantiles": {
            f"{q:g}": int(v)
            for q, v in zip(QUANTILES, np.quantile(curated.lengths, QUANTILES), strict=True)
        },
        "splits": {
            name: {
                "rows": len(rows),
                "groups": len({example.group for example in rows}),
                "tokens": sum(len(item.input_ids) for item in curated.encoded[name]),
                "supervised_tokens": sum(item.targets for item in curated.encoded[name]),
                "sha256": split_hash(rows),
            }
            for name, rows in curated.splits.items()
        },
        "leak_check": leaks(curated.splits),
    }


def split_hash(rows: Sequence[Example]) -> str:
    """SHA-256 of the sorted ids of a split: equal for equal rows in any order."""
    return hashlib.sha256("\n".join(sorted(row.id for row in rows)).encode()).hexdigest()


def write_card(card: dict[str, Any], folder: Path) -> None:
    """Write `data_card.json` and `data_card.md` into a folder."""
    text = json.dumps(card, indent=2, ensure_ascii=False)
    for name, content in (("data_card.json", text + "\n"), ("data_card.md", _markdown(card))):
        # Column names and paths may hold lone surrogates: written as \udc80, which JSON reads back.
        (folder / name).write_text(content, encoding="utf-8", errors="backslashreplace")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _markdown(card: dict[str, Any]) -> str:
    source = card["source"]
    lines = [
        f"# Data card: {source['name']}",
        "",
        *(f"- {key}: {value}" for key, value in source.items() if key not in ("name", "sources")),
        *(f"- part: {part}" for part in source.get("sources", [])),
        f"- rows: {card['rows_in']:,} in, {card['rows_out']:,} out; none was cut",
        f"- tokenizer: {card['tokenizer']['name']} ({card['tokenizer']['vocabulary']:,} pieces)",
        "",
        "| dropped because | rows |",
        "|---|--:|",
        *(f"| {_cell(reason)} | {count:,} |" for reason, count in card["dropped"].items()),
        "",
        "| split | rows | groups | tokens | with loss | sha256 |",
        "|---|--:|--:|--:|--:|---|",
        *(
            f"| {name} | {s['rows']:,} | {s['groups']:,} | {s['tokens']:,} | "
            f"{s['supervised_tokens']:,} | `{s['sha256'][:12]}` |"
            for name, s in card["splits"].items()
        ),
        "",
        "| tokens a row, quantile | " + " | ".join(card["token_length_quantiles"]) + " |",
        "|---|" + "--:|" * len(card["token_length_quantiles"]),
        "| before the limit | "
        + " | ".join(f"{v:,}" for v in card["token_length_quantiles"].values())
        + " |",
        "",
        "Leak check: of {test_rows:,} test rows, {prompts_in_train:,} have a prompt and "
        "{replies_in_train:,} a reply that also stands in train or validation.".format(
            **card["leak_check"]
        ),
    ]
    return "\n".join(lines) + "\n"
