"""Queries: what is drawn is what was asked for."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from ecjax.data.queries import gaussian_queries, grid_queries, mixed_queries, noisy_copies


def test_gaussian_queries_are_standard_normal(key):
    x = gaussian_queries(20_000, 3, key=key)
    assert x.shape == (20_000, 3)
    # Standard errors: 1/sqrt(n) of a mean and of a correlation, sqrt(2/n) of a variance; five of them never happen.
    np.testing.assert_allclose(x.mean(axis=0), np.zeros(3), atol=5 / np.sqrt(20_000))
    np.testing.assert_allclose(np.cov(x.T), np.eye(3), atol=5 * np.sqrt(2 / 20_000))
    fourth = np.mean(np.asarray(x) ** 4, axis=0)  # 3 for a normal distribution, with variance 96
    np.testing.assert_allclose(fourth, np.full(3, 3.0), atol=5 * np.sqrt(96 / 20_000))


def test_gaussian_queries_have_the_precision_asked_for(key):
    assert gaussian_queries(2, 2, key=key).dtype == jnp.float64
    assert gaussian_queries(2, 2, key=key, dtype=jnp.float32).dtype == jnp.float32
    with jax.enable_x64(False):
        assert gaussian_queries(2, 2, key=key).dtype == jnp.float32


def test_the_key_decides(key):
    a, b = jr.split(key)
    np.testing.assert_array_equal(gaussian_queries(5, 2, key=a), gaussian_queries(5, 2, key=a))
    assert not np.any(gaussian_queries(5, 2, key=a) == gaussian_queries(5, 2, key=b))


@pytest.mark.parametrize(("n_per_side", "d_in"), [(2, 1), (5, 1), (3, 2), (4, 3)])
def test_a_grid_is_every_combination_of_its_sides(n_per_side, d_in):
    side = np.linspace(-2.0, 1.0, n_per_side)
    wanted = list(itertools.product(side, repeat=d_in))
    np.testing.assert_allclose(grid_queries(n_per_side, d_in, -2.0, 1.0), wanted, atol=1e-15)


def test_a_grid_has_the_precision_asked_for():
    assert grid_queries(3, 2, dtype=jnp.float32).dtype == jnp.float32


def test_noisy_copies_are_the_data_plus_noise_of_that_size(key):
    """Also where the data never vary: that is what the noise is for."""
    x = jnp.hstack([jr.normal(key, (500, 2)) * jnp.array([[1.0, 100.0]]), jnp.full((500, 1), 7.0)])
    copies = noisy_copies(x, 20, 0.1, key=jr.key(1))
    assert copies.shape == (10_000, 3)
    noise = copies.reshape(20, 500, 3) - x[None]
    np.testing.assert_allclose(noise.std(axis=(0, 1)), np.full(3, 0.1), rtol=5 / np.sqrt(2 * 10_000))
    np.testing.assert_allclose(noise.mean(axis=(0, 1)), np.zeros(3), atol=5 * 0.1 / np.sqrt(10_000))
    assert len(np.unique(noise)) == noise.size  # no noise is used twice


def test_mixtures_lie_on_the_lines_between_two_samples(key):
    """With samples that are corners of a simplex the two shares can be read off."""
    mixed = np.asarray(mixed_queries(jnp.eye(5), 2000, key=key))
    assert mixed.shape == (2000, 5)
    assert (np.sort(mixed, axis=1)[:, :3] == 0).all()
    assert (mixed > 0).sum(axis=1).min() == 2  # of a sample with itself there is one only
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(mixed.mean(axis=0), np.full(5, 0.2), atol=5 * np.sqrt(0.11 / 2000))
    assert len(np.unique(mixed[mixed > 0])) == 4000


def test_mixtures_never_leave_the_box_of_the_data(key):
    x = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (20, 3)), jnp.float32)
    mixed = mixed_queries(x, 5000, key=key)
    assert mixed.dtype == jnp.float32
    assert (mixed.min(axis=0) >= x.min(axis=0)).all()
    assert (mixed.max(axis=0) <= x.max(axis=0)).all()


def test_noisy_copies_keep_the_precision_of_the_data(key):
    assert noisy_copies(jnp.zeros((2, 2), jnp.float32), 1, 0.1, key=key).dtype == jnp.float32


BAD = {
    "no queries": (lambda: gaussian_queries(0, 2, key=jr.key(0)), "`n_samples` is at least 1; got 0"),
    "no inputs": (lambda: gaussian_queries(2, 0, key=jr.key(0)), "`d_in` is at least 1; got 0"),
    "a point": (lambda: grid_queries(1, 2), "`n_per_side` is at least 2"),
    "a grid of nothing": (lambda: grid_queries(3, 0), "`d_in` is at least 1"),
    "upside down": (lambda: grid_queries(3, 2, 1.0, -1.0), "`low` is below `high`"),
    "nan": (lambda: grid_queries(3, 2, float("nan"), 1.0), "`low` is below `high`"),
    "a grid of an image": (lambda: grid_queries(2, 784), "gaussian_queries"),
    "nothing to mix": (lambda: mixed_queries(jnp.zeros((1, 2)), 3, key=jr.key(0)), "`x` has two samples at least"),
    "no mixtures": (lambda: mixed_queries(jnp.zeros((2, 2)), 0, key=jr.key(0)), "`n_samples` is at least 1"),
    "no copies": (lambda: noisy_copies(jnp.zeros((2, 2)), 0, 0.1, key=jr.key(0)), "`n_copies` is at least 1"),
    "no noise": (lambda: noisy_copies(jnp.zeros((2, 2)), 1, 0.0, key=jr.key(0)), "`scale` is the standard deviation"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()
