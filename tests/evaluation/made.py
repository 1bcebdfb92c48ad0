"""Comparisons that tests make up: results and predictions of replies, hostile ones among them."""

from dataclasses import replace
from typing import Any

from tuner.evaluation.metric import select_metrics
from tuner.evaluation.predictions import Prediction
from tuner.evaluation.results import Setting, build_results
from tuner.evaluation.score import score

HOSTILE = (
    "</pre><script>alert(1)</script> ![x](http://evil/a.png) ` <b>\n`````\n````text\n# heading\n"
    "| a | b |\n{{ 7 * 7 }} {% raw %} \x1b[2J\x1b]0;title\x07 \u202etxt \u2028 &amp; <img src=x>"
    " $\\frac{1}{0}$ \x00 \ud800 \ufffe ]]> --> www.evil.com http://evil.com me@evil.com"
)
REFERENCE = "one two three four"


def made(
    replies: dict[str, list[str]],
    metrics: list[str] | None = None,
    baselines: tuple[str, ...] = (),
    recipes: dict[str, str] | None = None,
    categories: int = 2,
    resamples: int = 300,
    **fields: Any,
) -> tuple[dict[str, Any], list[Prediction]]:
    """Builds results and predictions of systems from their replies."""
    n = len(next(iter(replies.values())))
    defaults: dict[str, Any] = {
        "prompt": "<|user|>\nHello",
        "reference": REFERENCE,
        "stop_reason": "eos",
        "new_tokens": 4,
        "seconds": 0.25,
    }
    rows = [
        Prediction(
            **{"id": f"e{i:02}", "category": f"c{i % categories}", **defaults, **fields},
            system=system,
            prediction=text,
        )
        for system, texts in replies.items()
        for i, text in enumerate(texts)
    ]
    scored = score(rows, select_metrics(["rouge1", "rougeL"] if metrics is None else metrics))
    described = {
        "base": "pico",
        "head": "LoRA",
        "trainable_params": 8,
        "trainable_percent": 0.512,
        "batch_size": 2,
        "recipe": "",
        "seed": None,
        "baseline": False,
    }
    setting = Setting(
        test_set={"n": n, "sha256": "0123456789abcdef", "source": "samples"},
        systems={
            name: described
            | {"baseline": name in baselines, "recipe": (recipes or {}).get(name, "")}
            for name in replies
        },
        decoding={"max_new_tokens": 16, "do_sample": False},
        seed=3,
        command="python eval.py lora",
        environment={"python": "3.11"},
    )
    return build_results(scored, setting, resamples=resamples), scored.predictions


def hostile() -> tuple[dict[str, Any], list[Prediction]]:
    """A comparison in which every text that can be hostile is."""
    ours, name = HOSTILE + "one", "_=lora|<b>*x* $\\frac{1}$ </svg><script>alert(1)</script> \ud800"
    names = {"base": [HOSTILE] * 4, name: [ours] * 4, HOSTILE: [ours] * 4}
    results, rows = made(names, prompt=HOSTILE, reference=HOSTILE + REFERENCE, category=HOSTILE)
    ids = {row.id: f"={row.id}{HOSTILE}" for row in rows}
    rows = [
        replace(row, id=ids[row.id], slices={HOSTILE: HOSTILE + row.id[-1:]}, question=HOSTILE)
        for row in rows
    ]
    for one in [*results["worst"], *results["losses"]]:
        one["id"] = ids[one["id"]]
    results["slices"] = [
        {**one, "slice": HOSTILE, "value": HOSTILE + str(place)}
        for one in results["categories"]
        for place in range(2)
    ]
    for system in results["systems"].values():
        system |= {"head": HOSTILE, "base": HOSTILE, "trainable_params": 8}
        system["latency"]["alone"] = {HOSTILE: WAITING}
        system["signatures"] = dict.fromkeys(system["signatures"], HOSTILE)
    for info in results["metric_info"].values():
        info["paper"] = HOSTILE
    results["seeds"] = {HOSTILE: {"runs": [name], "metrics": {"rougeL": dict(SPREAD)}}}
    results["test_set"] |= {"source": HOSTILE, "sha256": HOSTILE}
    results["suite"] = {"name": HOSTILE, "description": HOSTILE, "rubric": {}, "sha256": HOSTILE}
    results["curves"] = {system: {"train": [[1, 2.0], [2, 1.0]]} for system in names}
    results["data_card"] = {
        "source": {"name": HOSTILE, HOSTILE: HOSTILE},
        "tokenizer": {"name": HOSTILE},
        "settings": {"prompt": {HOSTILE: HOSTILE}},
        "dropped": {HOSTILE: 3},
        "splits": {HOSTILE: {"rows": 1, "sha256": HOSTILE}},
    }
    results["human"] = ratings("base", name, HOSTILE)
    results |= {"command": HOSTILE, "environment": {HOSTILE: HOSTILE}, "decoding": {"x": HOSTILE}}
    return results, rows


WAITING = {
    "prompts": 2,
    "batch_size": 1,
    "max_new_tokens": 8,
    "p50": 0.1234,
    "p95": 0.2345,
    "first_token_p50": 0.0123,
    "first_token_p95": 0.0234,
    "new_tokens_per_second": 45.67,
}
SPREAD = {"mean": 0.4321, "sd": 0.0123, "min": 0.4111, "max": 0.4567}


def ratings(base: str, tuned: str, criterion: str = "tone") -> dict[str, Any]:
    """What `summarise` gives, of two systems."""
    mean = {"n": 10, "items": 5, "mean": 3.8765, "ci95": [3.1111, 4.2222]}
    success = {"n": 10, "successes": 7, "rate": 0.7, "ci95": [0.3968, 0.8922], "effective_n": 9.0}
    system = {"scores": {"overall": mean, criterion: mean}, "success": success}
    alpha = {"level": "ordinal", "units": 5, "alpha": 0.6543, "ci95": [0.2, 0.9], "raw": 0.75}
    unknown = {"level": "nominal", "units": 0, "alpha": None, "ci95": None, "raw": None}
    pair = {"a": base, "b": tuned, "items": 9, "wins": 7, "losses": 1, "ties": 1}
    pair |= {"win_rate": 0.875, "ci95": [0.5291, 0.9776], "p": 0.0703, "p_holm": 0.0703}
    return {
        "problem": None,
        "raters": 2,
        "items": 9,
        "items_in_study": 9,
        "ratings": 40,
        "comments": 1,
        "seed": 0,
        "rubric": {criterion: criterion},
        "success_from": 4,
        "systems": {base: system, tuned: system},
        "pairs": [pair],
        "agreement": {
            "scores": {"overall": alpha | {"reason": None}},
            "preference": unknown | {"reason": "no two raters have rated the same"},
        },
        "repeats": None,
    }
