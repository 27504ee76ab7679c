"""Probabilities as answers: the logits behind them, what rounding leaves of these, and what says nothing."""

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ecjax as ec
from ecjax.data.probabilities import logits_of, look_like_probabilities

seeds = st.integers(0, 2**32 - 1)
OF = {kind: ec.Answers(kind=kind) for kind in ("probabilities", "log_probabilities", "numbers", "logits")}


def softmax(z):
    e = np.exp(z)
    return e / e.sum(axis=1, keepdims=True)


def logits(seed, n=50, classes=3):
    return np.random.default_rng(seed).standard_normal((n, classes))


@settings(deadline=None)
@given(seed=seeds, classes=st.integers(2, 5))
def test_logits_come_back_but_for_a_shift(seed, classes):
    z = logits(seed, classes=classes)
    p = softmax(z)
    for given_, of_logs in ((p, False), (np.log(p), True)):
        found = logits_of(given_, np.zeros_like(p), of_logs=of_logs)
        np.testing.assert_allclose(found.y, z - z.mean(axis=1, keepdims=True), atol=1e-12)
        assert found.counts.all()


@given(seed=seeds)
def test_one_column_is_logistic(seed):
    z = logits(seed, classes=1)
    found = logits_of(1 / (1 + np.exp(-z)), np.zeros_like(z))
    np.testing.assert_allclose(found.y, z, atol=1e-12)


@given(seed=seeds, decimals=st.sampled_from([3, 4, 6]))
def test_the_error_of_logits_is_that_of_rounding(seed, decimals):
    """Propagated to first order from probabilities that are not small: within 2 of what it is."""
    z = logits(seed, n=500)
    p = softmax(z)
    rounded = np.round(p, decimals)
    found = logits_of(rounded, np.full_like(p, 10.0**-decimals / np.sqrt(12)))
    plain = np.log(p) - np.log(p).mean(axis=1, keepdims=True)
    share = np.mean((found.y - plain[found.counts]) ** 2, axis=1) / found.error**2
    assert 0.4 < np.mean(share) < 1.1  # the mean of three logarithms takes a third of it away


def test_rows_that_were_rounded_away_are_set_aside():
    p = np.array(jax.nn.softmax(logits(0, n=200)))
    p[3], p[7] = [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]
    found = logits_of(p, np.full_like(p, 1e-4))
    assert not found.counts[[3, 7]].any()
    assert np.isfinite(found.y).all()
    assert found.counts.sum() > 150


def test_only_distributions_look_like_probabilities():
    z = logits(1)
    p = np.asarray(jax.nn.softmax(z))
    assert look_like_probabilities(p, 0.0)
    assert look_like_probabilities(np.round(p, 2), 1e-2 / np.sqrt(12))
    assert not look_like_probabilities(z, 0.0)
    assert not look_like_probabilities(p[:, :1], 0.0)
    assert not look_like_probabilities(0.9 * p, 0.0)


@pytest.mark.parametrize(
    ("y", "kind", "named"),
    [
        (np.eye(3)[np.arange(60) % 3], "probabilities", "hard labels"),
        (np.asarray(jax.nn.softmax(logits(0, 60))), None, "look like probabilities"),
        (logits(0, 60), "probabilities", "between 0 and 1"),
        (0.5 * np.asarray(jax.nn.softmax(logits(0, 60))), "probabilities", "add up to 1"),
        (np.abs(logits(0, 60)), "log_probabilities", "each 0 or below"),
    ],
)
def test_what_cannot_work_is_said_at_the_door(y, kind, named):
    x = np.random.default_rng(1).standard_normal((60, 2))
    with pytest.raises(ValueError, match=named):
        ec.Data.of(x, y, answers=ec.Answers(kind=kind))


def test_fresh_probabilities_become_logits_too():
    x = np.random.default_rng(1).standard_normal((60, 2))
    p = np.asarray(jax.nn.softmax(logits(0, 60)))
    data = ec.Data.of(x, p, fresh=(x[:20], p[:20]), answers=OF["probabilities"])
    assert data.fresh is not None
    np.testing.assert_array_equal(data.fresh.y, data.y[:20])
    assert data.n_numbers == 120
    assert "logits from probabilities" in data.notes[0]
    numbers = ec.Data.of(x, p, answers=OF["numbers"])
    np.testing.assert_array_equal(numbers.y, p)


def test_a_network_is_recovered_from_its_probabilities():
    teacher = drawn.teacher(3, 2, 2, "tanh", key=jr.key(0))
    x = drawn.queries(400, 3, key=jr.key(1))
    y = drawn.answers(teacher, x)
    told = {"activation": "tanh", "key": jr.key(0), "student_width": 8, "n_students": 6}
    recovery = ec.recover(x, jax.nn.softmax(y), answers=OF["probabilities"], **told)
    assert recovery.widths == (2,)
    assert recovery.certificate.certified
    centred = y - y.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(ec.respond(recovery.network, x), centred, atol=1e-12)
    assert any("shift" in each for each in recovery.unidentified)


@pytest.mark.slow
def test_a_network_is_recovered_from_rounded_probabilities():
    teacher = ec.synthetic_teacher(3, (2,), 2, "tanh", key=jr.key(0))
    x = ec.gaussian_queries(400, 3, key=jr.key(1))
    p = jnp.round(jax.nn.softmax(ec.respond(teacher, x)), 5)
    told = {"activation": "tanh", "key": jr.key(0), "student_width": 8, "n_students": 6}
    rounded = ec.recover(x, p, answers=OF["probabilities"], **told)
    assert rounded.widths == (2,)
    assert rounded.is_exact
