"""Levenberg-Marquardt on other samples in every step: exact networks are where it comes to rest, and chance repeats."""

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from ecjax.expand import Subsampled
from ecjax.expand.subsampled import _drawn
from ecjax.network import respond
from ecjax.objective import Samples, flatten

SHAPE = (5, 4, 3, 3)


def problem(activation="tanh", n=300, weighted=False):
    teacher = drawn.network(SHAPE, activation, key=jr.key(0))
    x = drawn.normal(jr.key(1), (n, SHAPE[0]))
    return teacher, Samples(x, respond(teacher, x), jnp.arange(1.0, n + 1) if weighted else None)


def disturbed(net, by=0.03):
    wave = lambda leaf: drawn.on_device(leaf + by * np.cos(np.arange(leaf.size)).reshape(leaf.shape))
    return jax.tree.map(lambda leaf: wave(np.asarray(leaf)), net)


@pytest.mark.parametrize("activation", ["tanh", "g", "softplus", "relu"])
@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
def test_steps_on_few_samples_lead_to_what_explains_all(activation, weighted):
    teacher, samples = problem(activation, weighted=weighted)
    stage = Subsampled(n_steps=300)
    seen = stage.answers * teacher.n_parameters / SHAPE[-1]
    assert seen < len(samples.x) / 5
    start = disturbed(teacher)
    end = jax.jit(stage)(start, samples)
    assert float(end.loss) < 1e-7
    np.testing.assert_allclose(end.loss, samples.value(end.network), rtol=1e-6)
    assert end.network.dtype == start.dtype


def test_an_exact_network_stays_where_it_is():
    teacher, samples = problem()
    end = jax.jit(Subsampled(n_steps=50))(teacher, samples)
    assert int(end.n_steps) == 1
    np.testing.assert_allclose(flatten(end.network)[0], flatten(teacher)[0], atol=1e-5)


def test_frozen_parameters_stay_to_the_last_digit():
    teacher, samples = problem()
    start = disturbed(teacher)
    theta, _ = flatten(start)
    free = np.arange(len(theta)) % 3 > 0
    end = jax.jit(Subsampled(n_steps=20))(start, samples, free=free)
    after, _ = flatten(end.network)
    np.testing.assert_array_equal(after[~free], theta[~free])
    assert (np.asarray(after[free]) != np.asarray(theta[free])).all()


def test_a_share_of_the_loss_is_the_damping_of_the_step_that_sees_it():
    teacher, samples = problem(n=20)  # all seen in each step
    start = disturbed(teacher)
    damping = 1e-2 * float(samples.value(start))
    fixed = jax.jit(Subsampled(n_steps=1, damping=damping, first=damping))(start, samples)
    share = jax.jit(Subsampled(n_steps=1, damping=1e-12, first=1e-12, of_loss=1e-2))(start, samples)
    np.testing.assert_allclose(flatten(share.network)[0], flatten(fixed.network)[0], rtol=1e-4, atol=1e-6)
    least = jax.jit(Subsampled(n_steps=1, damping=1e-12, first=1e-12))(start, samples)
    assert not np.allclose(flatten(least.network)[0], flatten(fixed.network)[0], rtol=1e-4, atol=1e-6)


def test_chance_repeats_itself():
    """A run that was interrupted goes on as it would have gone."""
    teacher, samples = problem()
    one, other = (jax.jit(Subsampled(n_steps=10))(disturbed(teacher), samples) for _ in range(2))
    np.testing.assert_array_equal(flatten(one.network)[0], flatten(other.network)[0])


def test_each_step_draws_other_rows_once_each():
    drawn_rows = [np.asarray(_drawn(jnp.array(number), 100, 20)) for number in range(5)]
    assert all(len(set(rows)) == 20 and rows.min() >= 0 and rows.max() < 100 for rows in drawn_rows)
    assert len({tuple(sorted(rows)) for rows in drawn_rows}) == 5
    np.testing.assert_array_equal(_drawn(jnp.array(3), 20, 20), np.arange(20))  # all that there are


@pytest.mark.parametrize("n", [10, 40])
def test_few_samples_are_all_seen(n):
    teacher, samples = problem(n=n)
    end = jax.jit(Subsampled(n_steps=50))(disturbed(teacher), samples)
    assert float(end.loss) < 1e-6


def test_a_student_that_is_not_finite_is_told_of():
    teacher, samples = problem()
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), teacher)
    end = jax.jit(Subsampled(n_steps=5))(broken, samples)
    assert not np.isfinite(float(end.loss))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"n_steps": 0}, "n_steps"),
        ({"answers": 0.0}, "answers"),
        ({"damping": -1.0}, "damping"),
        ({"of_loss": -1e-2}, "of_loss"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        Subsampled(**settings)
