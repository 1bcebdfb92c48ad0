"""MedQuAD: questions about health answered by US institutes (Ben Abacha and Demner-Fushman 2019).

Two forms are about: a CSV with question, answer, source, focus_area, and the hub set's columns
qtype, Question, Answer. One real question: "What are the symptoms of Parasites - Scabies ?"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tuner.data.example import Example, Item, Message, Rejected, Skipped, digest
from tuner.data.reading import Row
from tuner.data.sources.base import Source, group_of, text_of


class MedQuAD(Source):
    """Medical questions with long, factual answers (BMC Bioinformatics 20:511).

    A group is a focus area where the set names one, else a question. Rows without an answer (the
    original has thousands, for reasons of copyright) are passed over and counted. Some answers
    stand word for word under hundreds of questions ("This condition is inherited in an autosomal
    recessive pattern").

    Args:
        path: a local copy (CSV in either form).
        limit: use this many examples, drawn at random; all when null.
        seed: seed of that draw.
        revision: branch, tag or commit of the hub data set.
        repeated_answers: `drop` all rows but the first that have one answer, or `keep` them.
    """

    hub = "keivalya/MedQuad-MedicalQnADataset"
    licence = "CC BY 4.0"

    def __init__(
        self,
        path: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        revision: str | None = None,
        repeated_answers: Literal["drop", "keep"] = "drop",
    ) -> None:
        super().__init__(path, limit, seed, revision)
        self.repeated_answers: Literal["drop", "keep"] = repeated_answers

    def _items(self) -> Iterator[Item]:
        seen = set[str]()
        for item in super()._items():
            if self.repeated_answers == "drop" and isinstance(item, Example):
                answer = digest(item.reply)
                if answer in seen:
                    yield Skipped("repeated_answer", str(item.meta["where"]))
                    continue
                seen.add(answer)
            yield item

    def example(self, row: Row, where: str) -> Item:
        """See the base class."""
        cells = {key.lower(): key for key in row}
        for column in ("question", "answer"):
            if column not in cells:
                return Rejected(f"no_column_{column}", where)
        question = " ".join(text_of(row, cells["question"]).split())
        answer = text_of(row, cells["answer"])
        if not question or not answer:
            return Rejected("no_prompt", where) if answer else Skipped("no_answer", where)
        focus = text_of(row, "focus_area")
        kind = text_of(row, "question_type") or text_of(row, "qtype")
        return Example(
            messages=(Message("user", question), Message("assistant", answer)),
            group=group_of(focus or question),
            category=kind,
            meta={"focus_area": focus, "source": text_of(row, "source"), "where": where},
        )
