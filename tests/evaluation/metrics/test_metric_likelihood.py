"""Likelihood by hand and against torch's cross entropy."""

import math

import numpy as np
import pytest
import torch

from tests.evaluation.conftest import pair
from tuner.evaluation.metrics.likelihood import Likelihood
from tuner.evaluation.predictions import Prediction


def measured(nll: float | None, tokens: int) -> Prediction:
    return pair("x", "y", reference_nll=nll, reference_tokens=tokens)


def test_a_set_weighs_tokens_alike_as_cross_entropy_does() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(9, 11, dtype=torch.float64), torch.arange(9)
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    rows = [measured(float(part.sum()), len(part)) for part in each.split([1, 6, 2])]
    scores = Likelihood().score(rows)
    expected = float(torch.nn.functional.cross_entropy(logits, targets))
    totals = scores["nll"].statistics.sum(axis=0)
    assert Likelihood().corpus("nll", totals) == pytest.approx(expected)
    assert Likelihood().corpus("perplexity", totals) == pytest.approx(math.exp(expected))
    assert scores["nll"].rows[1] == pytest.approx(float(each[1:7].mean()))
    assert expected != pytest.approx(scores["nll"].rows.mean())


def test_rows_without_a_finite_likelihood_have_no_value() -> None:
    rows = [measured(2.0, 2), measured(None, 3), measured(math.nan, 2), measured(math.inf, 2)]
    scores = Likelihood().score([*rows, measured(1.0, 0)])
    assert scores["nll"].rows.tolist()[0] == 1
    assert np.isnan(scores["nll"].rows[1:]).all()
    assert scores["nll"].statistics.sum(axis=0).tolist() == [2, 2]


def test_a_hopeless_model_has_a_finite_perplexity() -> None:
    assert np.isfinite(Likelihood().score([measured(1e6, 1)])["perplexity"].rows).all()


def test_applies_where_every_row_was_measured() -> None:
    assert Likelihood().applies([measured(1.0, 2), measured(0.0, 1)])
    assert not Likelihood().applies([measured(1.0, 2), measured(None, 0)])
    assert not Likelihood().applies([measured(1.0, 2), measured(1.0, 0)])
    assert not Likelihood().applies([])
