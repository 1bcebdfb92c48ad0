"""Paired statistics against scipy, sacrebleu, enumeration and their own promises."""

import random

import numpy as np
import pytest
import scipy.stats
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from tests.evaluation.conftest import pairs
from tuner.evaluation import stats
from tuner.evaluation.metrics.bleu import Bleu


def mean_statistics(values: np.ndarray) -> np.ndarray:
    """Makes (n, 2) statistics of a mean."""
    return np.stack([values, np.ones_like(values)], axis=-1)


def means(totals: np.ndarray) -> np.ndarray:
    return totals[..., 0] / totals[..., 1]


def test_interval_equals_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).beta(2, 5, size=120)
    low, high = stats.interval(means(stats.bootstrap_totals(mean_statistics(values), 20_000, 1)))
    reference = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    assert low == pytest.approx(reference.low, abs=1e-3)
    assert high == pytest.approx(reference.high, abs=1e-3)


def without_one(statistics: np.ndarray) -> np.ndarray:
    return means(statistics.sum(axis=0) - statistics)


def test_bca_interval_equals_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=40) ** 2  # skewed: it differs from the other
    statistics = mean_statistics(values)
    drawn = means(stats.bootstrap_totals(statistics, 40_000, 1))
    low, high = stats.bca_interval(drawn, values.mean(), without_one(statistics))
    reference = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=40_000, method="BCa", rng=2
    ).confidence_interval
    assert (low, high) == pytest.approx((reference.low, reference.high), rel=0.02)
    assert stats.interval(drawn)[1] < 0.95 * high


def test_bca_of_one_value_is_that_value() -> None:
    assert stats.bca_interval(np.full(50, 0.5), 0.5, np.full(9, 0.5)) == (0.5, 0.5)
    assert stats.bca_interval(np.zeros(50), 0.0, np.zeros(9)) == (0, 0)


def test_intervals_cover_the_truth_in_93_to_97_of_100_cases() -> None:
    rng = np.random.default_rng(3)
    percentile = bca = 0
    for seed in range(1000):
        values = rng.beta(2, 3, size=100)
        statistics = mean_statistics(values)
        drawn = means(stats.bootstrap_totals(statistics, 1000, seed))
        low, high = stats.interval(drawn)
        percentile += low <= 2 / 5 <= high
        low, high = stats.bca_interval(drawn, values.mean(), without_one(statistics))
        bca += low <= 2 / 5 <= high
    assert 930 <= percentile <= 970
    assert 930 <= bca <= 970


def test_intervals_of_groups_cover_the_truth_where_those_of_rows_do_not() -> None:
    rng = np.random.default_rng(4)
    groups = [index // 5 for index in range(300)]
    grouped = alone = 0
    for seed in range(500):
        values = np.repeat(rng.normal(size=60), 5) + 0.3 * rng.normal(size=300)
        statistics = mean_statistics(values)
        for units in (stats.sum_by_group(statistics, groups), statistics):
            drawn = means(stats.bootstrap_totals(units, 600, seed))
            low, high = stats.bca_interval(drawn, values.mean(), without_one(units))
            grouped += len(units) == 60 and low <= 0 <= high
            alone += len(units) == 300 and low <= 0 <= high
    assert 0.92 <= grouped / 500 <= 0.975
    assert alone / 500 < 0.8


def test_the_detectable_difference_is_found_in_8_of_10_sets() -> None:
    rng = np.random.default_rng(5)
    truth = (
        stats.detectable(
            means(stats.bootstrap_totals(mean_statistics(rng.normal(size=4000)), 2000, 0))
        )
        * (4000 / 50) ** 0.5
    )  # for 50 rows; estimated from many
    found = sum(
        scipy.stats.ttest_1samp(rng.normal(truth, size=50), 0).pvalue < 0.05 for _ in range(1000)
    )
    assert found / 1000 == pytest.approx(0.8, abs=0.04)


def test_rounding_of_sums_is_no_difference() -> None:
    low, high = stats.interval(np.tile([-2e-15, 0.0, 2e-15], 100))
    assert (low, high) == (0, 0)


def test_every_resample_has_as_many_units_as_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "_CELLS", 70)  # chunks of one resample, and one that is cut short
    totals = stats.bootstrap_totals(np.ones((30, 2, 3)), 101, 0)
    assert totals.shape == (101, 2, 3)
    assert (totals == 30).all()


def test_systems_are_compared_on_the_same_resamples() -> None:
    a = np.random.default_rng(0).normal(size=200)
    both = np.stack([mean_statistics(a), mean_statistics(a + 0.1)], axis=1)
    drawn = means(stats.bootstrap_totals(both, 500, 0))
    assert drawn[:, 1] - drawn[:, 0] == pytest.approx(np.full(500, 0.1))
    assert drawn[:, 0].std() > 0.01


def test_draws_depend_on_the_seed_alone() -> None:
    statistics = mean_statistics(np.arange(50.0))
    for draw in (stats.bootstrap_totals, stats.swap_totals):
        assert (draw(statistics, 100, 5) == draw(statistics, 100, 5)).all()
        assert (draw(statistics, 100, 5) != draw(statistics, 100, 6)).any()


def randomised_p(a: np.ndarray, b: np.ndarray, resamples: int, seed: int) -> float:
    gained = stats.swap_totals(mean_statistics(b) - mean_statistics(a), resamples, seed)[:, 0]
    null = ((b.sum() - gained) - (a.sum() + gained)) / len(a)
    return stats.randomisation_p(b.mean() - a.mean(), null)


def test_p_equals_the_full_enumeration() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(10), rng.random(10) + 0.2
    exact = scipy.stats.permutation_test(
        (a, b),
        lambda x, y: y.mean() - x.mean(),
        permutation_type="samples",
        alternative="two-sided",
        n_resamples=np.inf,
    ).pvalue
    assert 0.005 < exact < 0.5
    assert randomised_p(a, b, 40_000, 0) == pytest.approx(exact, abs=0.01)


def test_ties_count_whatever_the_rounding() -> None:
    a, b = np.array([1.0, 5, 2, 7, 3, 3]), np.array([2.0, 6, 4, 6, 6, 4])
    assert randomised_p(a / 10, b / 10, 999, 0) == randomised_p(a, b, 999, 0)


def test_p_is_uniform_where_there_is_no_difference() -> None:
    rng = np.random.default_rng(7)
    found = [randomised_p(rng.random(40), rng.random(40), 400, seed) for seed in range(200)]
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01


def test_smallest_p_is_one_in_resamples_plus_one() -> None:
    a, b = np.zeros(200), np.ones(200)
    assert randomised_p(a, b, 999, 0) == pytest.approx(1 / 1000)
    assert randomised_p(a, a, 999, 0) == 1


def bleu_texts() -> tuple[list[str], list[str], list[str]]:
    """References, and two systems of which the second is a little nearer to them."""
    rng = random.Random(0)
    words = ["the", "a", "order", "refund", "please", "we", "can", "help", "you", "today", "card"]
    references = [" ".join(rng.choices(words, k=15)) for _ in range(60)]

    def noisy(share: float) -> list[str]:
        return [
            " ".join(rng.choice(words) if rng.random() < share else word for word in line.split())
            for line in references
        ]

    return references, noisy(0.5), noisy(0.46)


@pytest.mark.parametrize("kind", ["ar", "bs"])
def test_bleu_agrees_with_sacrebleus_paired_tests(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", "12345")
    references, a, b = bleu_texts()
    test = PairedTest(
        [("a", a), ("b", b)], {"BLEU": BLEU()}, [references], test_type=kind, n_samples=4000
    )
    expected = test()[1]["BLEU"][1]

    bleu = Bleu()
    both = np.stack([bleu.score(pairs(one, references))["bleu"].statistics for one in (a, b)], 1)
    if kind == "ar":
        left, right = both[:, 0], both[:, 1]
        gained = stats.swap_totals(right - left, 4000, 0)
        null = bleu.corpus("bleu", right.sum(0) - gained) - bleu.corpus(
            "bleu", left.sum(0) + gained
        )
        delta = float(bleu.corpus("bleu", right.sum(0)) - bleu.corpus("bleu", left.sum(0)))
        assert 0.002 < expected.p_value < 0.9
        assert stats.randomisation_p(delta, null) == pytest.approx(expected.p_value, abs=0.03)
    else:
        drawn = 100 * bleu.corpus("bleu", stats.bootstrap_totals(both, 4000, 0))
        low, high = stats.interval(drawn[:, 1])
        assert drawn[:, 1].mean() == pytest.approx(expected.mean, abs=0.1)
        assert (high - low) / 2 == pytest.approx(expected.ci, rel=0.05)
        # Its p: how often resampled differences, moved to zero, are as large as the one seen.
        moved = np.abs(drawn[:, 1] - drawn[:, 0])
        seen = abs(float(np.diff(100 * bleu.corpus("bleu", both.sum(0)))[0]))
        p = (np.count_nonzero(moved - moved.mean() > seen) + 1) / 4001
        assert p == pytest.approx(expected.p_value, abs=0.03)


def test_groups_are_resampled_as_a_whole() -> None:
    values = np.random.default_rng(0).random(40)
    copies = mean_statistics(np.repeat(values, 5))
    groups = [f"g{index // 5}" for index in range(200)]

    def width(statistics: np.ndarray) -> float:
        low, high = stats.interval(means(stats.bootstrap_totals(statistics, 4000, 0)))
        return float(high - low)

    grouped = stats.sum_by_group(copies, groups)
    assert grouped.shape == (40, 2)
    assert grouped[0] == pytest.approx([5 * values[0], 5])
    assert width(grouped) == pytest.approx(width(mean_statistics(values)))
    assert width(copies) == pytest.approx(width(grouped) / 5**0.5, rel=0.1)


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.6, 0.9]) == [1.0, 1.0]
    assert stats.holm([]) == []
