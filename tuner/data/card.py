"""The data card: what a run was trained on, in JSON and in Markdown."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.data.curate import Curated
from tuner.markdown import escape

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    return {
        "source": provenance,
        "settings": settings,
        "tokenizer": {
            "name": Path(tokenizer.name_or_path).name,
            "vocabulary": len(tokenizer),
            "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        },
        **curated.account,
    }


def write_card(card: dict[str, Any], folder: Path) -> None:
    """Write `data_card.json` and `data_card.md` into a folder."""
    text = json.dumps(card, indent=2, ensure_ascii=False)
    for name, content in (("data_card.json", text + "\n"), ("data_card.md", _markdown(card))):
        # Column names and paths may hold lone surrogates: written as \udc80, which JSON reads back.
        (folder / name).write_text(content, encoding="utf-8", errors="backslashreplace")


def _markdown(card: dict[str, Any]) -> str:
    source = card["source"]
    tokenizer = card["tokenizer"]
    leaks = card["leak_check"]
    lines = [
        f"# Data card: {escape(source['name'])}",
        "",
        *(
            f"- {escape(key)}: {escape(str(value))}"
            for key, value in source.items()
            if key not in ("name", "sources")
        ),
        *(f"- part: {escape(str(part))}" for part in source.get("sources", [])),
        f"- rows: {card['rows_in']:,} in, {card['rows_out']:,} out; "
        f"{card['truncated']:,} were trimmed, no reply was cut",
        f"- reply tokens lost with rows or turns over the length limit: "
        f"{card['reply_tokens_lost']['tokens']:,} ({card['reply_tokens_lost']['share']:.1%})",
        f"- tokenizer: {escape(tokenizer['name'])} ({tokenizer['vocabulary']:,} pieces)",
        *(f"- redacted: {n:,} {escape(kind)}" for kind, n in card["redacted"].items()),
        *(
            f"- rows with {escape(name.replace('_', ' '))}: {n:,}"
            for name, n in card["flagged"].items()
        ),
        *(f"  - {escape(row)}" for row in card["flagged_rows"]),
        "",
        "| step | rows in | dropped | changed |",
        "|---|--:|--:|--:|",
        *(
            f"| {s['step'].replace('_', ' ')} | {s['rows']:,} | {s['dropped']:,} | "
            f"{s['changed']:,} |"
            for s in card["steps"]
        ),
        "",
        "| dropped because | rows |",
        "|---|--:|",
        *(f"| {escape(reason)} | {count:,} |" for reason, count in card["dropped"].items()),
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
        f"Leak check: of {leaks['test_rows']:,} test rows, {leaks['contaminated']:,} have a "
        f"question that training has seen: {leaks['prompts_exact']:,} letter for letter, "
        f"{leaks['prompts_in_train']:,} the same but for case and punctuation, "
        f"{leaks['near_duplicates_in_train']:,} a near duplicate, "
        f"{leaks['prompts_13gram']:,} a run of 13 words. Replies: {leaks['replies_in_train']:,} "
        f"the same, {leaks['replies_13gram']:,} a run of 13 words.",
    ]
    return "\n".join(lines) + "\n"
