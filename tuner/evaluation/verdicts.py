"""What a comparison has found, in plain sentences, the most important one first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.evaluation.layout import FEW, p_of, percent, percents, signed, signed_span, value_of

if TYPE_CHECKING:
    from collections.abc import Mapping

ALPHA = 0.05
UNCLEAR = "no clear difference"
CAVEAT = (
    "Intervals cover the choice of test examples only",
    "they say nothing about other training seeds; train again with other seeds to see how far "
    "results move",
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One finding.

    Attributes:
        lead: in words.
        detail: the numbers behind it; empty where there are none.
        tone: `better`, `worse` or another verdict; empty where it is none.
    """

    lead: str
    detail: str = ""
    tone: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self.lead}: {self.detail}." if self.detail else f"{self.lead}."


def verdict_of(one: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """A comparison in one word, or `no clear difference`, by the adjusted p-value."""
    if one["p_holm"] is None or one["p_holm"] >= ALPHA:
        return UNCLEAR
    up = results["metric_info"][one["metric"]]["higher_is_better"]
    if up is None:
        return "higher" if one["delta"] > 0 else "lower"
    return "better" if (one["delta"] > 0) == up else "worse"


def sentences(results: Mapping[str, Any]) -> list[Sentence]:
    """All that is to be said before any table, in the order in which it matters.

    Args:
        results: the content of results.json.
    """
    decisive = [one for one in results["comparisons"] if one["metric"] == results["primary_metric"]]
    base = results["base"]
    against = [one for one in decisive if one["a"] == base]
    rivals = [one for one in decisive if one["a"] != base and not _is_baseline(one["a"], results)]
    trivial = [one for one in decisive if _is_baseline(one["a"], results)]
    return [
        *(_comparison(one, results) for one in against),
        *(_baseline(one, results) for one in trivial),
        *(_comparison(one, results) for one in rivals),
        *_forgetting(results),
        *_human(results),
        *_seeds(results),
        *_cautions(results, decisive),
    ]


def figures(one: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """The numbers behind a verdict."""
    a, b = (results["systems"][one[side]]["metrics"][one["metric"]] for side in "ab")
    return (
        f"{one['metric']} {value_of(a)} to {value_of(b)} ({signed(one['delta'])}, 95 % interval "
        f"{signed_span(one['ci95'])}, p = {p_of(one['p_holm'])} after Holm, n = {one['n']})"
    )


def _is_baseline(name: str, results: Mapping[str, Any]) -> bool:
    return bool(results["systems"][name]["baseline"])


def _comparison(one: Mapping[str, Any], results: Mapping[str, Any]) -> Sentence:
    verdict, numbers = verdict_of(one, results), figures(one, results)
    if verdict == UNCLEAR:
        return Sentence(f"No clear difference between {one['b']} and {one['a']}", numbers)
    return Sentence(f"{one['b']} is {verdict} than {one['a']}", numbers, verdict)


def _baseline(one: Mapping[str, Any], results: Mapping[str, Any]) -> Sentence:
    verdict, numbers = verdict_of(one, results), figures(one, results)
    name = f"the baseline {one['a']}"
    leads = {
        "better": f"{one['b']} beats {name}",
        "worse": f"{one['b']} does not beat {name}, it is worse",
        UNCLEAR: f"{one['b']} does not beat {name}, there is no clear difference",
    }
    return Sentence(leads.get(verdict, f"{one['b']} is {verdict} than {name}"), numbers, verdict)


def _forgetting(results: Mapping[str, Any]) -> list[Sentence]:
    found: Mapping[str, Any] = results.get("forgetting") or {"comparisons": []}
    said: list[Sentence] = []
    for one in found["comparisons"]:
        a, b = (found["systems"][one[side]]["metrics"] for side in "ab")
        numbers = (
            f"{value_of(a)} to {value_of(b)} nats a token on {found['texts']} passages "
            f"({signed(one['delta'])}, 95 % interval {signed_span(one['ci95'])}, "
            f"p = {p_of(one['p_holm'])} after Holm)"
        )
        if one["p_holm"] is None or one["p_holm"] >= ALPHA:
            said.append(Sentence(f"No clear change of {one['b']} on general text", numbers))
            continue
        tone = "worse" if one["delta"] > 0 else "better"
        hint = ", a sign of forgetting" if tone == "worse" else ""
        by = value_of(abs(one["delta"]))
        lead = f"{one['b']} has become {tone} on general text by {by} nats a token{hint}"
        said.append(Sentence(lead, numbers, tone))
    return said


def _human(results: Mapping[str, Any]) -> list[Sentence]:
    human = results["human"]
    if human is None:
        return []
    if human["problem"]:
        return [Sentence(f"People's ratings are left out, as {human['problem']}")]
    said: list[Sentence] = []
    for one in human["pairs"]:
        if one["win_rate"] is None:
            continue
        if one["p_holm"] is None or one["p_holm"] >= ALPHA:
            lead = f"People have no clear preference for {one['b']} or {one['a']}"
        elif one["wins"] > one["losses"]:
            lead = f"People prefer {one['b']} to {one['a']}"
        else:
            lead = f"People prefer {one['a']} to {one['b']}"
        numbers = (
            f"{one['wins']} wins of {one['b']}, {one['losses']} losses, {one['ties']} ties (win "
            f"rate {percent(one['win_rate'])}, 95 % interval {percents(one['ci95'])}, "
            f"p = {p_of(one['p_holm'])} after Holm, raters: {human['raters']})"
        )
        said.append(Sentence(lead, numbers))
    return said


def _seeds(results: Mapping[str, Any]) -> list[Sentence]:
    primary = results["primary_metric"]
    said: list[Sentence] = []
    for recipe, found in results["seeds"].items():
        spread, runs = found["metrics"].get(primary), len(found["runs"])
        if spread is None:
            continue
        if spread["sd"] is None:
            said.append(Sentence(f"{recipe} is one run: nothing is known of other training seeds"))
            continue
        numbers = (
            f"{primary} {value_of(spread['mean'])} on average, standard deviation "
            f"{value_of(spread['sd'])}, from {value_of(spread['min'])} to "
            f"{value_of(spread['max'])}; this comes on top of the intervals, which cover the "
            "choice of test examples only" + ("; two runs say little of it" if runs == 2 else "")
        )
        said.append(Sentence(f"{runs} training seeds of {recipe}", numbers))
    return said


def _cautions(results: Mapping[str, Any], decisive: list[dict[str, Any]]) -> list[Sentence]:
    said: list[Sentence] = []
    units = results["resampling"]["units"]
    if units < FEW:
        said.append(
            Sentence(
                f"Only {units} independent units",
                "intervals and p-values of so small a set are rough",
            )
        )
    known = [one["detectable"] for one in decisive if one["detectable"] is not None]
    if known:
        said.append(
            Sentence(
                f"Smallest detectable difference in {results['primary_metric']}",
                f"about {value_of(max(known))} would be found with four of five test sets like "
                "this one, before Holm's adjustment; a smaller one may well go unnoticed",
            )
        )
    if not results["seeds"] and results["comparisons"]:
        said.append(Sentence(*CAVEAT))
    return said
