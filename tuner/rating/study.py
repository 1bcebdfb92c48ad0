"""A study: which answers are rated, by what, and in which draw; fixed once rating has begun."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from itertools import combinations
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import UserError, nearest
from tuner.evaluation.predictions import read_predictions
from tuner.evaluation.reading import check_predictions, read_results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuner.evaluation.predictions import Prediction

OVERALL = "overall"
RUBRIC = {
    "task adherence": "Does it do what was asked, all of it and nothing else?",
    "tone": "Is it polite, and does it fit the situation?",
    "clarity and conciseness": "Is it easy to follow, without needless words?",
    "helpfulness": "Would it get the person further?",
}
OVERALL_EXPLAINED = "All in all, how good is this answer?"
SEED = 12345
MOST_SYSTEMS = 4


@dataclass(frozen=True)
class Study:
    """What is rated; two equal studies show the same rater the same pages.

    Attributes:
        seed: of the draw of items and of every order.
        systems: names of the systems, two or more.
        items: ids of the examples, in the order of predictions.jsonl.
        repeats: items that each rater sees a second time.
        rubric: explanation of each criterion; the last one is `overall`.
        digest: SHA-256 of the prompts and answers that are shown.
    """

    seed: int
    systems: tuple[str, ...]
    items: tuple[str, ...]
    repeats: int
    rubric: dict[str, str]
    digest: str

    def __post_init__(self) -> None:
        """Checks what a file may have got wrong since it was written.

        Raises:
            ValueError: a value is of another type, or out of its range.
        """
        rubric = (*self.rubric, *self.rubric.values())
        texts = list[object]([*self.systems, *self.items, *rubric, self.digest])
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"systems, items, rubric or digest are {texts!r:.80}")
        for name, most in (("seed", None), ("repeats", len(self.items))):
            value = getattr(self, name)
            if type(value) is not int or value < 0 or (most is not None and value > most):
                raise ValueError(f"{name} is {value!r:.80}")

    @property
    def criteria(self) -> list[str]:
        """Names of what is scored, `overall` last."""
        return list(self.rubric)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of systems, in the order of `systems`."""
        return list(combinations(self.systems, 2))

    @property
    def key(self) -> str:
        """A short mark of this study, which a sheet carries."""
        text = json.dumps([self.seed, self.systems, self.items, self.repeats, self.rubric])
        return hashlib.sha256((self.digest + text).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Answers:
    """The texts of a comparison.

    Attributes:
        rows: the predictions by example and system.
        groups: for each example the key of what is resampled as a whole: its group, or itself.
    """

    rows: dict[str, dict[str, Prediction]]
    groups: dict[str, str]

    def asked(self, item: str) -> str:
        """What the user asked, or the whole prompt where the file does not part it off."""
        row = next(iter(self.rows[item].values()))
        return row.question or row.prompt

    def given(self, item: str, systems: Sequence[str]) -> str:
        """All that the models were given; empty where it is no more, or differs and would tell."""
        prompts = {self.rows[item][system].prompt for system in systems}
        (prompt,) = prompts if len(prompts) == 1 else [""]
        return "" if prompt == self.asked(item) else prompt


def find_comparison(name: str, logs: Path) -> Path:
    """Find the folder of a comparison by its name or path.

    Args:
        name: what was typed.
        logs: folder of the runs; comparisons are in its `compare/`.

    Returns:
        The folder; it has a predictions.jsonl.

    Raises:
        UserError: there is none.
    """
    for folder in (Path(name), logs / "compare" / name):
        if isfile(folder / "predictions.jsonl"):  # false of what cannot be a path, too
            return folder
    known = [file.parent.name for file in (logs / "compare").glob("*/predictions.jsonl")]
    hint = nearest(name, known) if known else "Make one with: python eval.py RUN"
    raise UserError(
        f"no comparison '{name}' with a predictions.jsonl in {logs / 'compare'}. {hint}"
    )


def read_answers(folder: Path) -> Answers:
    """Read what the systems of a comparison answered.

    Raises:
        UserError: the file cannot be read, or has a row twice.
    """
    file = folder / "predictions.jsonl"
    try:
        predictions = read_predictions(file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from error
    rows: dict[str, dict[str, Prediction]] = {}
    for row in predictions:
        if row.system in rows.setdefault(row.id, {}):
            raise UserError(f"{file}: two rows of system '{row.system}' for example '{row.id}'")
        rows[row.id][row.system] = row
    groups = {key: next(iter(one.values())).group or f"\0{key}" for key, one in rows.items()}
    return Answers(rows, groups)


def read_rubric(folder: Path) -> dict[str, str]:
    """The rubric of the comparison's suite, or the usual one; `overall` is always the last.

    Raises:
        UserError: results.json cannot be read, is of other predictions, or its rubric does not
            map names to explanations.
    """
    file = folder / "results.json"
    results = read_results(folder) if file.exists() else {}
    check_predictions(folder, results)
    suite: Any = results.get("suite") or {}
    rubric: Any = (suite.get("rubric") if isinstance(suite, dict) else None) or RUBRIC
    if not isinstance(rubric, dict) or not all(isinstance(one, str) for one in rubric.values()):
        raise UserError(f"{file}: suite.rubric must map the name of a criterion to an explanation")
    explained = {str(name): str(text) for name, text in rubric.items()}
    overall = explained.pop(OVERALL, OVERALL_EXPLAINED)
    return explained | {OVERALL: overall}


def draw_study(
    answers: Answers,
    rubric: Mapping[str, str],
    *,
    systems: Sequence[str] | None = None,
    items: int | None = None,
    repeats: int = 0,
    seed: int = SEED,
) -> Study:
    """Decide what is rated.

    Args:
        answers: all there is.
        rubric: explanation of each criterion.
        systems: those to rate; by default all.
        items: number of examples, drawn at random; all when null.
        repeats: examples that each rater sees a second time.
        seed: of the draw and of every order.

    Returns:
        The study; every item has an answer of every system.

    Raises:
        UserError: a system is unknown, there are too few or too many, or no example has all.
    """
    known = list(dict.fromkeys(system for row in answers.rows.values() for system in row))
    chosen = list(dict.fromkeys(systems or known))
    for system in chosen:
        if system not in known:
            raise UserError(f"--systems: no answers of '{system}'. {nearest(system, known)}")
    if not 2 <= len(chosen) <= MOST_SYSTEMS:
        raise UserError(
            f"{len(chosen)} systems cannot be rated side by side; choose 2 to {MOST_SYSTEMS} "
            f"with --systems. There are: {', '.join(known)}."
        )
    common = [key for key, row in answers.rows.items() if all(one in row for one in chosen)]
    if not common:
        raise UserError(f"no example has an answer of each of {', '.join(chosen)}")
    if items is not None and items > len(common):
        raise UserError(f"--items: {items} is more than the {len(common)} examples there are")
    drawn = set(random.Random(seed).sample(common, items or len(common)))
    kept = tuple(key for key in common if key in drawn)
    if repeats > len(kept):
        raise UserError(f"--repeats: {repeats} is more than the {len(kept)} items there are")
    return Study(seed, tuple(chosen), kept, repeats, dict(rubric), digest(answers, chosen, kept))


def digest(answers: Answers, systems: Sequence[str], items: Sequence[str]) -> str:
    """SHA-256 of what raters are shown.

    Scores and seconds are left out, so a comparison that was scored again keeps its ratings.
    """
    shown = [
        [item, answers.asked(item), answers.given(item, systems)]
        + [[system, answers.rows[item][system].prediction] for system in systems]
        for item in items
    ]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


def still_fits(study: Study, answers: Answers) -> bool:
    """Whether the answers are those that the study was made of."""
    return all(
        item in answers.rows and set(study.systems) <= answers.rows[item].keys()
        for item in study.items
    ) and study.digest == digest(answers, study.systems, study.items)
