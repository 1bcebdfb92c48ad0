"""What holds for every metric that the room holds, whatever a model wrote."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.evaluation.conftest import pair
from tuner.evaluation.metric import Metric, Scores, select_metrics
from tuner.evaluation.metrics.semantic import VARIABLE
from tuner.evaluation.predictions import Prediction

METRICS = select_metrics()
BY_CLASS = {type(metric).__name__: metric for metric in METRICS.values()}
BOUNDS: dict[str, tuple[float, float]] = {
    "polarity": (-1, 1),
    "semantic": (-1.000001, 1.000001),
    "length_ratio": (0, np.inf),
    "nll": (0, np.inf),
    "perplexity": (1, np.inf),
}
HOSTILE = {
    "empty": "",
    "blank": " \n\t\u00a0\u3000",
    "one long word": "a" * 100_000,
    "many words": "good word " * 10_000,
    "emoji": "👍🏽👩‍👩‍👧" * 1000,
    "right to left": "\u200f\u202e\u0645\u0631\u062d\u0628\u0627\u202c",
    "surrogate": "\ud800 hello \udfff",
    "nul": "\0a\0 b" * 100,
    "signs": "?!.,;:()[]{}\"'`<>|\\/" * 5000,
    "one sign": "!" * 100_000,
    "brackets": "[" * 100_000,
    "braces": '{"a":' * 20_000,
    "quotes": '"' * 100_000,
    "open quotes": "\u201c" * 100_000,
    "digits": "1" * 100_000,
    "han": "中文" * 20_000,
    "hindi": "नमस्ते दुनिया",
    "thai": "สวัสดีชาวโลก",
    "marks": "e" + "\u0301\u0316" * 50_000,
    "nearly refusing": "i cannot " * 12_000,
    "headers": "a.\n\nArgs:\n" + "    x: y\n" * 10_000,
    "greeting": "Dear " + "a." * 50_000,
    "lines": "\n" * 100_000,
    "other lines": "a\u2028b\x0bc\x85d\x1ce",
}
SCRAPS = [
    "word",
    "Sorry, ",
    "I cannot help ",
    "Args:\n",
    "    x: y\n",
    "{",
    "中",
    "\u0301",
    "\u200f",
]
REPLIES = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=60),
    st.lists(st.sampled_from(SCRAPS), max_size=12).map("".join),
)


@pytest.fixture(scope="module", autouse=True)
def embedder(make_base: Callable[..., Path]) -> Iterator[None]:
    """Sets up the one metric that needs a model."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(make_base())
    yield
    os.environ.pop(VARIABLE)
    if before is not None:
        os.environ[VARIABLE] = before


def rows(metric: Metric, predictions: list[str], **more: Any) -> list[Prediction]:
    """Replies beside references for which the metric has a value."""
    fields: dict[str, Any] = {
        "expects": {"decline": "yes", "format": getattr(metric, "format", "")},
        "question": "Where is the order that I placed today?",
        "reference_nll": 12.5,
        "reference_tokens": 5,
    }
    references = ["Thank you, we can help you.", "sport"]
    return [
        pair(text, references[number % 2], **fields | more)
        for number, text in enumerate(predictions)
    ]


def check(metric: Metric, scores: dict[str, Scores], n: int) -> None:
    assert set(scores) == set(metric.keys)
    for key, found in scores.items():
        low, high = BOUNDS.get(key, (0, 1))
        known = ~np.isnan(found.rows)
        assert found.rows.shape == (n,)
        assert found.rows.dtype == found.statistics.dtype == np.float64
        assert found.statistics.shape[0] == n
        assert np.isfinite(found.statistics).all()
        assert ((found.rows[known] >= low) & (found.rows[known] <= high)).all()
        assert (found.statistics[~known] == 0).all()
        if key != "bleu":  # its rows have another smoothing than its sets
            one_by_one = metric.corpus(key, found.statistics)
            assert one_by_one == pytest.approx(found.rows, nan_ok=True)
            alone = [metric.corpus(key, one) for one in found.statistics]
            assert np.array_equal(np.array(alone), one_by_one, equal_nan=True)
        grid = np.stack([found.statistics, 2 * found.statistics])[:, :, None]
        assert metric.corpus(key, grid).shape == (2, n, 1)


@pytest.mark.parametrize("name", BY_CLASS)
def test_it_says_what_it_is(name: str) -> None:
    metric = BY_CLASS[name]
    signatures = metric.signatures()
    assert signatures.keys() == set(metric.keys)
    assert all("version:" in text for text in signatures.values())
    assert metric.paper
    assert metric.higher_is_better in (True, False, None)
    assert type(metric).__doc__
    assert type(metric)().signatures() == signatures


def test_keys_are_unique() -> None:
    keys = [key for metric in BY_CLASS.values() for key in metric.keys]
    assert sorted(keys) == sorted(set(keys))


@pytest.mark.parametrize("name", BY_CLASS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_reply_breaks_it_or_takes_long(name: str, kind: str) -> None:
    metric = BY_CLASS[name]
    started = time.process_time()
    check(metric, metric.score(rows(metric, [HOSTILE[kind]] * 2)), 2)
    assert time.process_time() - started < 20, "minutes, if it backtracks"


@pytest.mark.parametrize("name", BY_CLASS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(replies=st.lists(REPLIES, min_size=1, max_size=4))
def test_any_replies(name: str, replies: list[str]) -> None:
    metric = BY_CLASS[name]
    scores = metric.score(rows(metric, replies))
    check(metric, scores, len(replies))
    again = type(metric)().score(rows(metric, replies)) if name != "Semantic" else scores
    for key in metric.keys:
        assert np.array_equal(scores[key].rows, again[key].rows, equal_nan=True)
        assert np.array_equal(scores[key].statistics, again[key].statistics)


@pytest.mark.parametrize("name", BY_CLASS)
def test_the_width_depends_on_references_alone(name: str) -> None:
    metric = BY_CLASS[name]
    one, other = (
        metric.score(rows(metric, texts)) for texts in (["", "sport"], ["Dear Ann, hello", "x"])
    )
    for key in metric.keys:
        assert one[key].statistics.shape == other[key].statistics.shape


@pytest.mark.parametrize("name", [n for n in BY_CLASS if not BY_CLASS[n].needs_reference])
def test_without_references_where_none_are_needed(name: str) -> None:
    metric = BY_CLASS[name]
    plain = [pair("I cannot help you with that today.", "")]
    check(metric, metric.score(plain), 1)
    assert metric.applies(plain) in (True, False)


def test_finding_the_metrics_loads_nothing_heavy() -> None:
    code = """
import sys
from tuner.evaluation.metric import select_metrics
select_metrics()
heavy = {"torch", "transformers", "textblob", "nltk", "sacrebleu", "rouge_score", "sklearn"}
sys.exit(", ".join(heavy & sys.modules.keys()) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
