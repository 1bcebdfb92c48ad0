"""Metrics against sacrebleu, rouge_score and values computed by hand."""

import random

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from tests.evaluation.conftest import pairs
from tuner.errors import UserError
from tuner.evaluation.metric import select_metrics
from tuner.evaluation.metrics.bleu import Bleu
from tuner.evaluation.metrics.chrf import Chrf
from tuner.evaluation.metrics.rouge import Rouge

METRICS = select_metrics(["bleu", "chrf", "Rouge"])
WORDS = [
    "the",
    "a",
    "order",
    "refund",
    "please",
    "we",
    "can't",
    "help",
    "you,",
    "today",
    "card",
    "number",
    ".",
    "!",
    "naïve",
    "中文",
    "hello",
]


def corpus(seed: int, n: int = 12) -> tuple[list[str], list[str]]:
    """Draws references and noisy copies of them, some empty or very short."""
    rng = random.Random(seed)
    references = [" ".join(rng.choices(WORDS, k=rng.choice([1, 2, 5, 20]))) for _ in range(n)]
    noise = rng.choice([0.1, 0.5, 0.9])
    predictions = [
        " ".join(rng.choice(WORDS) if rng.random() < noise else word for word in reference.split())
        for reference in references
    ]
    predictions[0] = ""
    predictions[1] = predictions[1][: len(predictions[1]) // 2] + " \n"
    return predictions, references


@pytest.mark.parametrize("key", METRICS)
def test_every_metric_keeps_the_contract(key: str) -> None:
    metric = METRICS[key]
    predictions, references = corpus(0)
    scores = metric.score(pairs(predictions, references))[key]

    assert scores.rows.shape == (12,)
    assert scores.rows.dtype == scores.statistics.dtype == np.float64
    assert scores.statistics.shape[0] == 12
    assert scores.rows.min() >= 0
    assert scores.rows.max() <= 1
    assert metric.signatures().keys() == set(metric.keys)
    assert "version:" in metric.signatures()[key]
    assert metric.paper.startswith("https://")

    totals = np.stack([scores.statistics.sum(axis=0), scores.statistics[2:].sum(axis=0)])
    both = metric.corpus(key, totals.reshape(2, 1, -1))
    assert both.shape == (2, 1)
    for one, value in zip(totals, both[:, 0], strict=True):
        assert metric.corpus(key, one) == value
    again = metric.score(pairs(predictions[2:], references[2:]))[key].statistics.sum(axis=0)
    assert metric.corpus(key, again) == pytest.approx(both[1, 0])


@pytest.mark.parametrize("key", METRICS)
def test_a_perfect_reply_scores_1_and_an_empty_one_0(key: str) -> None:
    text = "We can help you with your order today."
    perfect, empty, other = (
        METRICS[key].score(pairs([text, "", "qqq"], [text, text, text]))[key].rows
    )
    assert perfect == pytest.approx(1)
    assert empty == 0
    assert other < 0.05


@pytest.mark.parametrize("seed", range(40))
def test_bleu_and_chrf_equal_sacrebleu(seed: int) -> None:
    predictions, references = corpus(seed)
    bleu = Bleu().score(pairs(predictions, references))["bleu"]
    chrf = Chrf().score(pairs(predictions, references))["chrf"]

    expected = sacrebleu.corpus_bleu(predictions, [references]).score / 100
    assert Bleu().corpus("bleu", bleu.statistics.sum(axis=0)) == pytest.approx(expected, abs=1e-12)
    expected = sacrebleu.corpus_chrf(predictions, [references]).score / 100
    assert Chrf().corpus("chrf", chrf.statistics.sum(axis=0)) == pytest.approx(expected, abs=1e-12)
    both = list(zip(predictions, references, strict=True))
    sentences = [sacrebleu.sentence_bleu(ours, [theirs]).score / 100 for ours, theirs in both]
    assert bleu.rows == pytest.approx(sentences, abs=1e-12)
    sentences = [sacrebleu.sentence_chrf(ours, [theirs]).score / 100 for ours, theirs in both]
    assert chrf.rows == pytest.approx(sentences, abs=1e-12)


def test_bleu_smoothing_and_brevity_by_hand() -> None:
    # 1-grams 3/4, 2-grams 1/3, no 3-gram of 2: 1/(2*2), no 4-gram of 1: 1/(4*1); 4 words for 5
    scores = Bleu().score(pairs(["a b x c"], ["a b c d e"]))["bleu"]
    expected = (3 / 4 * 1 / 3 * 1 / 4 * 1 / 4) ** 0.25 * np.exp(1 - 5 / 4)
    assert Bleu().corpus("bleu", scores.statistics.sum(axis=0)) == pytest.approx(expected)


def test_short_perfect_replies_count_in_rows_though_not_in_the_corpus() -> None:
    scores = Bleu().score(pairs(["yes we can"], ["yes we can"]))["bleu"]
    assert scores.rows[0] == pytest.approx(1)
    assert Bleu().corpus("bleu", scores.statistics.sum(axis=0)) == 0


def test_signatures_are_sacrebleus_own() -> None:
    bleu = sacrebleu.BLEU()
    bleu.corpus_score(["a"], [["a"]])
    assert str(bleu.get_signature()) in Bleu().signatures()["bleu"]
    assert "tok:13a|smooth:exp" in Bleu().signatures()["bleu"]
    assert "nc:6|nw:0" in Chrf().signatures()["chrf"]
    assert "stemmer:no" in Rouge().signatures()["rougeL"]


@pytest.mark.parametrize("seed", range(10))
def test_rouge_equals_rouge_score(seed: int) -> None:
    predictions, references = corpus(seed)
    scores = Rouge().score(pairs(predictions, references))
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    expected = [
        scorer.score(theirs, ours) for ours, theirs in zip(predictions, references, strict=True)
    ]
    for key, found in scores.items():
        rows = [one[key].fmeasure for one in expected]
        assert list(found.rows) == rows
        totals = found.statistics.sum(axis=0)
        assert Rouge().corpus(key, totals) == pytest.approx(np.mean(rows))


def test_rouge_by_hand_without_stemming() -> None:
    scores = Rouge().score(pairs(["the cat sat", "running"], ["the cat ran fast", "runs"]))
    assert scores["rouge1"].rows[0] == pytest.approx(4 / 7)
    assert scores["rouge2"].rows[0] == pytest.approx(2 / 5)
    assert scores["rougeL"].rows[0] == pytest.approx(4 / 7)
    assert scores["rouge1"].rows[1] == 0


def test_metrics_are_found_by_key_class_and_path() -> None:
    assert list(select_metrics(["rougeL"])) == ["rougeL"]
    assert list(select_metrics(["Rouge", "bleu"])) == ["rouge1", "rouge2", "rougeL", "bleu"]
    outside = select_metrics(["tuner.evaluation.metrics.chrf.Chrf"])
    assert type(outside["chrf"]) is Chrf
    shared = select_metrics(["rouge1", "rougeL"])
    assert shared["rouge1"] is shared["rougeL"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rouge_l", "Did you mean 'rougeL'"),
        ("no.such.Metric", "cannot be imported"),
        ("tuner.errors.UserError", "not a subclass"),
    ],
)
def test_unknown_metrics_are_refused_with_help(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        select_metrics([name])
