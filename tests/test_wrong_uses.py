"""Wrong uses end in a message that names the likely cause and the remedy."""

import jaxtyping
import numpy as np
import pytest

import ecjax as ec
from benchmarks.wrong_uses import USES, solve
from ecjax.data.probabilities import look_like_labels, look_like_log_probabilities
from ecjax.judge import Judge
from ecjax.road.advice import NOT_IMITATED, NOTHING_EXPLAINED, of_the_end

AT_THE_DOOR = {
    "probabilities as numbers",
    "log-probabilities as numbers",
    "logits as probabilities",
    "percentages as probabilities",
    "one-hot labels",
    "numbers of classes",
    "too few rows",
    "missing answers",
    "answers in a unit of 1e-300",
    "queries in a unit of 1e300",
    "a constant output",
    "images not flattened",
    "whole numbers",
    "a polynomial's name",
    "a name of nothing",
}


@pytest.mark.parametrize(
    "use", [use if use in AT_THE_DOOR else pytest.param(use, marks=pytest.mark.slow) for use in USES]
)
def test_the_cause_is_named(use, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # whose checks stand before ecjax's own
    assert solve(use)["named"]


def test_whole_numbers_of_many_values_are_no_labels():
    rng = np.random.default_rng(0)
    assert look_like_labels(rng.integers(0, 10, (300, 1)).astype(float))
    assert look_like_labels(np.eye(4)[rng.integers(0, 4, 50)])
    assert not look_like_labels(rng.integers(0, 1000, (300, 1)).astype(float))
    assert not look_like_labels(rng.integers(0, 10, (300, 2)).astype(float))
    assert not look_like_labels(np.round(rng.standard_normal((300, 1)), 1))


def test_only_logarithms_of_distributions_look_like_them():
    p = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    assert look_like_log_probabilities(np.log(p), 0.0)
    assert not look_like_log_probabilities(np.log(p) + 0.1, 0.0)
    assert not look_like_log_probabilities(np.log(p) - 0.1, 0.0)
    assert not look_like_log_probabilities(p, 0.0)


def test_few_rows_with_much_of_what_is_left_are_outliers():
    rng = np.random.default_rng(0)
    left = 1e-2 * rng.standard_normal((1000, 2))
    x = rng.standard_normal((1000, 2))
    data, judge = ec.Data.of(x, x + 1.0), Judge(eps=2e-16, n_numbers=2000)
    advice = lambda left, data=data: of_the_end(left, False, 1e-3, 100, judge, data)
    assert advice(left) == NOT_IMITATED
    left[:10] += 5.0
    assert "outliers=True" in advice(left)
    assert of_the_end(left, False, 0.99, 100, judge, data) == NOTHING_EXPLAINED
    assert advice(left, ec.Data.of(x, x + 1.0, answers=ec.Answers(outliers=True))) == NOT_IMITATED
    assert of_the_end(left, True, 1e-3, 100, judge, data) == ""
