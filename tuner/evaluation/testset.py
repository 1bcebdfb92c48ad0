"""The rows that systems are compared on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.data.curate import split_hash
from tuner.data.datamodule import ConversationData
from tuner.data.example import Example, fraction
from tuner.errors import UserError, intact
from tuner.parser import Parser
from tuner.written import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tuner.data.prompts import Prompt


@dataclass(frozen=True)
class TestSet:
    """Examples to answer, and what they are.

    Attributes:
        examples: the rows, in the order of the data.
        prompt: the rendering that the runs were trained with.
        description: `n`, `sha256` and `source`, as results.json has them.
        train: what the first run was trained on, for the baselines.
    """

    __test__ = False  # pytest takes any class of this name for a test otherwise

    examples: list[Example]
    prompt: Prompt
    description: dict[str, Any]
    train: Sequence[Example] = ()


def load_data(settings: dict[str, Any], overlay: Path | None = None) -> ConversationData:
    """The data module of a run.

    Args:
        settings: the `data` section of the run's config.yaml.
        overlay: a YAML whose `data` section replaces some of it.

    Raises:
        UserError: the settings do not fit, or the overlay cannot be read.
    """
    parser = Parser()
    parser.add_class_arguments(ConversationData, "data")
    config = parser.parse_object({"data": settings})
    if overlay is not None:
        content = load(overlay, "--data")
        if not isinstance(content, dict) or "data" not in content:
            raise UserError(f"--data: {overlay} has no `data` section")
        config = parser.parse_object({"data": content["data"]}, cfg_base=config)
    return parser.instantiate(config)["data"]


def own_test_split(
    data: ConversationData, tokenizer: PreTrainedTokenizerBase, cards: dict[str, dict[str, Any]]
) -> list[Example]:
    """The test split that runs were kept from seeing.

    `seen` in an example's meta says whether the leak check calls it `clean` or `contaminated`.

    Args:
        data: the data module of the first run.
        tokenizer: its base's tokenizer.
        cards: the data_card.json of each run by name.

    Raises:
        UserError: the data changed since, or a run was split otherwise and may have been trained on
            these rows.
    """
    curated = data.prepare(tokenizer)
    marks = ("contaminated" if seen else "clean" for seen in curated.contaminated)
    examples = [
        replace(example, meta={**example.meta, "seen": mark})
        for example, mark in zip(curated.splits["test"], marks, strict=True)
    ]
    if not examples:
        raise UserError("the run has no test split (data.test_size 0); name one with --data YAML")
    found = split_hash(example.id for example in examples)
    for name, card in cards.items():
        with intact(f"data_card.json of {name}"):
            own = card["splits"]["test"]["sha256"]
        if own != found:
            raise UserError(
                f"{name} was trained with another test split than this comparison would use: its "
                "data changed since, or its split differs, so it may have seen these rows. "
                "Compare on rows that are new to all, with --data YAML"
            )
    return examples


def unseen(
    examples: Sequence[Example],
    known: Sequence[ConversationData],
    tokenizer: PreTrainedTokenizerBase,
) -> list[Example]:
    """The examples whose prompts no run was trained or validated on, case and blanks apart.

    Args:
        examples: rows of any data.
        known: the data modules of the runs.
        tokenizer: of their base.

    Raises:
        UserError: none is left.
    """

    def words(example: Example) -> tuple[str, ...]:
        return tuple(" ".join(m.content.casefold().split()) for m in example.prompt)

    seen = {
        words(example)
        for data in known
        for split in ("train", "val")
        for example in data.prepare(tokenizer).splits[split]
    }
    found = [example for example in examples if words(example) not in seen]
    if not found:
        raise UserError("--data: the runs were trained or validated on every prompt of it")
    return found


def draw(examples: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    """Draw `limit` examples at random (all when null), in their order."""
    if limit is None or limit >= len(examples):
        return list(examples)
    drawn = sorted(examples, key=lambda e: (fraction(seed, e.id), e.id))[:limit]
    kept = {example.id for example in drawn}
    return [example for example in examples if example.id in kept]


def describe(examples: Sequence[Example], source: str) -> dict[str, Any]:
    """What results.json says of a test set."""
    return {
        "n": len(examples),
        "sha256": split_hash(example.id for example in examples),
        "source": source,
    }


def source_of(data: ConversationData) -> str:
    """Name and place of the data."""
    source = data.card["source"]
    origin = source.get("path") or source.get("hub")
    return source["name"] + (f" ({origin})" if origin else "")
