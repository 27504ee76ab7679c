"""Rows whose answers are wrong altogether, or missing: set aside and said, where that was asked for."""

import drawn
import jax.random as jr
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import ecjax as ec
from ecjax.judge.jacobian import leverage
from ecjax.road.choice import Choice
from ecjax.road.outliers import without_outliers

CONFIG = ec.RecoveryConfig.toy(student_width=8, n_students=6)


def spoilt(activation="tanh", *, n=800, noise=0.0, share=0.05, size=3.0, seed=0):
    teacher_key, x_key = jr.split(jr.key(seed))
    teacher = ec.synthetic_teacher(3, (2,), 2, activation, key=teacher_key)
    x = ec.gaussian_queries(n, 3, key=x_key)
    y, rng = np.array(ec.respond(teacher, x)), np.random.default_rng(seed)
    y += noise * y.std(axis=0) * rng.standard_normal(y.shape)
    bad = rng.random(n) < share
    y[bad] += size * y.std(axis=0) * rng.standard_normal((int(bad.sum()), 2))
    return teacher, x, y, bad


def found(x, y, activation="tanh", config=CONFIG):
    data = ec.Data.of(x, y, answers=ec.Answers(outliers=True))
    activations = ec.network.as_activations(activation, 1)
    return without_outliers(data, activations, Choice(config, ()), key=jr.key(1), progress=lambda *_, **__: None)


@pytest.mark.parametrize(
    ("noise", "share", "size"),
    [(0.0, 0.05, 3.0), (1e-2, 0.05, 10.0), pytest.param(1e-3, 0.2, 1e4, marks=pytest.mark.slow)],
)
def test_outliers_are_found_and_no_others(noise, share, size):
    _, x, y, bad = spoilt(noise=noise, share=share, size=size)
    kept = found(x, y)
    assert kept.aside[bad].mean() > 0.95  # of those that are drawn some are no larger than the errors
    assert kept.aside[~bad].sum() <= 1
    assert len(kept.data.x) == (~kept.aside).sum()
    np.testing.assert_array_equal(kept.data.y, y[~kept.aside])


@pytest.mark.parametrize("noise", [0.0, 1e-2])
def test_where_there_are_none_none_are_found(noise):
    _, x, y, _ = spoilt(noise=noise, share=0.0)
    kept = found(x, y)
    assert not kept.aside.any()
    assert len(kept.data.x) == len(x)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_teacher_is_recovered_among_outliers(activation):
    teacher, x, y, bad = spoilt(activation, n=1500)
    told = {"activation": activation, "key": jr.key(0), "config": CONFIG}
    recovery = ec.recover(x, y, answers=ec.Answers(outliers=True), **told)
    assert recovery.widths == (2,)
    assert recovery.certificate.certified
    assert ec.compare(recovery, teacher, x).parameter_error < 1e-6
    assert f"{bad.sum()} of 1500 rows set aside as outliers" in recovery.summary()


def test_methods_of_other_students_are_refused():
    _, x, y, _ = spoilt()
    with pytest.raises(ValueError, match="trained one by one"):
        found(x, y, config=ec.RecoveryConfig.images_deep(student_width=8))


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@example(seed=354922635)  # a condition of 1e10
def test_leverage_is_the_diagonal_of_the_projection(seed):
    """Between 0 and 1; a row of weight 0 has none."""
    net = drawn.network((2, 2, 2), "tanh", key=jr.key(seed))
    rng = np.random.default_rng(seed)
    x, weights = rng.standard_normal((40, 2)), rng.uniform(0.5, 2.0, 40)
    weights[0] = 0.0
    x = drawn.on_device(x)
    h = leverage(net, x, weights)
    assert h.shape == (40, 2)
    assert (h > -1e-9).all()
    assert (h < 1 + 1e-9).all()
    assert not h[0].any()
    j = np.sqrt(weights)[:, None, None] * np.asarray(ec.judge.jacobian.answers_by_weights(net, x))
    u, size, _ = np.linalg.svd(j.reshape(80, -1), full_matrices=False)
    condition = (size[0] / size[-1]) ** 2  # of J^T J, by which its roundings count
    assume(condition < 1e-3 / np.finfo(float).eps)  # beyond, a direction may be left out
    np.testing.assert_allclose(h.reshape(-1), np.sum(u**2, axis=1), atol=1e-12 + 10 * np.finfo(float).eps * condition)


# --- missing ---------------------------------------------------------------------------------------------------------


def test_missing_rows_are_dropped_where_that_was_asked_for():
    _, x, y, _ = spoilt(share=0.0, n=60)
    x, y = np.array(x), np.array(y)
    x[3, 1], y[3, 0], y[41, 1] = np.inf, np.nan, np.nan
    data = ec.Data.of(x, y, answers=ec.Answers(missing="dropped"))
    np.testing.assert_array_equal(data.x, np.delete(x, [3, 41], axis=0))
    np.testing.assert_array_equal(data.y, np.delete(y, [3, 41], axis=0))
    assert "2 of 60 rows dropped, which have NaN or infinite entries" in data.notes
    with pytest.raises(ValueError, match=r'2 rows?, .*or say answers=ecjax.Answers\(missing="dropped"\)'):
        ec.Data.of(np.where(np.isfinite(x), x, 0), y)
    with pytest.raises(ValueError, match="in every row"):
        ec.Data.of(x, np.full_like(y, np.nan), answers=ec.Answers(missing="dropped"))


def test_probabilities_miss_rows_like_numbers():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 50)
    p[7] = np.nan
    data = ec.Data.of(rng.standard_normal((50, 2)), p, answers=ec.Answers(kind="probabilities", missing="dropped"))
    assert len(data.x) == 49
    assert any("1 of 50 rows dropped" in each for each in data.notes)
