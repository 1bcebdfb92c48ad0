"""What people's ratings say: means, success, preferences and how far raters agree.

An item, or a group of related items, is resampled as a whole: several ratings of one prompt are not
independent. Intervals cover the choice of prompts, not that of raters.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.evaluation.agreement import agreement
from tuner.evaluation.proportion import effective_n, sign_test, wilson
from tuner.evaluation.stats import bootstrap_totals, holm, interval
from tuner.rating.store import FILE, Store
from tuner.rating.study import OVERALL, read_answers, still_fits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tuner.rating.store import Rating
    from tuner.rating.study import Study

SUCCESS = 4  # of 5, overall
SCORES = (1, 2, 3, 4, 5)


def summarise(folder: Path) -> dict[str, Any] | None:
    """The figures of a comparison's ratings, for `human` in results.json.

    Args:
        folder: of the comparison.

    Returns:
        None where nobody has rated. `{"problem": reason}` where the ratings are of other answers.
        Else `problem` (None), `raters`, `items`, `ratings`, `comments`, `rubric`, `systems`,
        `pairs`, `agreement` and `repeats`; docs/rating.md explains each.

    Raises:
        UserError: a file cannot be read.
    """
    store = Store(folder)
    study = store.study()
    everything = store.ratings() if study else []
    if study is None or not everything:
        return None
    answers = read_answers(folder)
    if not still_fits(study, answers):
        return {"problem": f"{FILE} holds ratings of other answers than there are now"}
    given = [one for one in everything if one.turn == 1 and one.kind != "comment"]
    scores = [one for one in given if one.kind == "score"]
    preferences = [one for one in given if one.kind == "preference"]
    return {
        "problem": None,
        "raters": len({one.rater for one in everything}),
        "items": len({one.item for one in given}),
        "items_in_study": len(study.items),
        "ratings": len(given),
        "comments": sum(one.kind == "comment" and bool(one.value) for one in everything),
        "seed": study.seed,
        "rubric": study.rubric,
        "success_from": SUCCESS,
        "systems": {
            system: _system([one for one in scores if one.system == system], answers.groups, study)
            for system in study.systems
        },
        "pairs": _pairs(preferences, study),
        "agreement": {
            "scores": {
                criterion: agreement(
                    [one for one in scores if one.criterion == criterion],
                    [str(value) for value in SCORES],
                    "ordinal",
                    answers.groups,
                    study.seed,
                )
                for criterion in study.criteria
            },
            "preference": agreement(
                preferences, [*study.systems, ""], "nominal", answers.groups, study.seed
            ),
        },
        "repeats": _repeats(everything),
    }


def _system(scores: list[Rating], groups: Mapping[str, str], study: Study) -> dict[str, Any]:
    by_criterion = {
        criterion: [one for one in scores if one.criterion == criterion]
        for criterion in study.criteria
    }
    overall = by_criterion[OVERALL]
    good = [float(int(one.value) >= SUCCESS) for one in overall]
    effective = effective_n(good, [groups[one.item] for one in overall])
    share = sum(good) / len(good) if good else None
    return {
        "scores": {
            criterion: _mean(ratings, groups, study.seed)
            for criterion, ratings in by_criterion.items()
        },
        "success": {
            "n": len(good),
            "successes": int(sum(good)),
            "rate": share,
            "ci95": None if share is None else wilson(share * effective, effective),
            "effective_n": effective,
        },
    }


def _mean(ratings: list[Rating], groups: Mapping[str, str], seed: int) -> dict[str, Any]:
    sums: dict[str, list[float]] = {}
    for one in ratings:
        total = sums.setdefault(groups[one.item], [0.0, 0.0])
        total[0] += int(one.value)
        total[1] += 1
    found: dict[str, Any] = {"n": len(ratings), "items": len({one.item for one in ratings})}
    if not sums:
        return found | {"mean": None, "ci95": None}
    totals = np.array([*sums.values()])
    value, n = totals.sum(axis=0)
    found["mean"] = float(value / n)
    if len(sums) < 2:
        return found | {"ci95": None}
    drawn = bootstrap_totals(totals, seed=seed)
    low, high = interval(drawn[:, 0] / drawn[:, 1])
    return found | {"ci95": [float(low), float(high)]}


def _pairs(preferences: list[Rating], study: Study) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for a, b in study.pairs:
        votes = [one for one in preferences if (one.system, one.other) == (a, b)]
        nets: dict[str, int] = {}
        for one in votes:
            vote = (one.value == b) - (one.value == a)
            nets[one.item] = nets.get(one.item, 0) + vote
        # An item counts once, however many have rated it: the test assumes independence.
        wins, losses = sum(net > 0 for net in nets.values()), sum(net < 0 for net in nets.values())
        cast = Counter({a: "losses", b: "wins"}.get(one.value, "ties") for one in votes)
        found.append(
            {
                "a": a,
                "b": b,
                "items": len(nets),
                "wins": wins,
                "losses": losses,
                "ties": len(nets) - wins - losses,
                "win_rate": wins / (wins + losses) if wins + losses else None,
                "ci95": wilson(wins, wins + losses),
                "p": sign_test(wins, losses),
                "votes": {key: cast[key] for key in ("wins", "losses", "ties")},
            }
        )
    known = [one for one in found if one["p"] is not None]
    for one, p in zip(known, holm([one["p"] for one in known]), strict=True):
        one["p_holm"] = p
    return [{"p_holm": None, **one} for one in found]


def _repeats(everything: list[Rating]) -> dict[str, Any] | None:
    """How far raters agree with themselves on what they have seen twice; None without any."""
    turns: dict[tuple[str, ...], dict[int, str]] = defaultdict(dict)
    for one in everything:
        turns[one.kind, one.rater, one.item, one.criterion, one.system, one.other][one.turn] = (
            one.value
        )

    def both(kind: str) -> list[tuple[str, str]]:
        return [(t[1], t[2]) for key, t in turns.items() if key[0] == kind and len(t) == 2]

    def share(values: list[tuple[str, str]], same: Callable[[str, str], bool]) -> float | None:
        return sum(same(*pair) for pair in values) / len(values) if values else None

    scores, preferences = both("score"), both("preference")
    if not scores and not preferences:
        return None
    return {
        "scores": len(scores),
        "scores_equal": share(scores, lambda a, b: a == b),
        "scores_within_1": share(scores, lambda a, b: abs(int(a) - int(b)) <= 1),
        "preferences": len(preferences),
        "preferences_equal": share(preferences, lambda a, b: a == b),
    }
