"""Variation: whether inputs vary is one answer, whatever their units, their offsets and their precision."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecjax.objective.variation import constant_columns, variation

UNITS = st.lists(st.integers(-8, 8), min_size=3, max_size=3)
OFFSETS = st.lists(st.integers(0, 4), min_size=3, max_size=3)  # powers of ten, in units of each column's own spread


def drawn(seed, units=(0, 0, 0), offsets=(0, 0, 0), n_samples=50):
    """Three independent columns, and a fourth that is a combination of the first two."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(n_samples, 3)) + 10.0 ** np.array(offsets) * (np.array(offsets) > 0)
    x = z * 10.0 ** np.array(units)
    return np.column_stack([x, z[:, 0] - 2 * z[:, 1]])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), units=UNITS, offsets=OFFSETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_answer_does_not_depend_on_units_and_offsets(dtype, seed, units, offsets):
    x = drawn(seed, units, offsets).astype(dtype)
    seen = variation(x)
    assert seen.rank == 3
    assert not seen.constant.any()
    independent = variation(x[:, :3])
    assert independent.rank == 3
    assert independent.unseen.shape == (3, 0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), units=UNITS)
def test_nothing_varies_in_unseen_directions(seed, units):
    x = np.column_stack([drawn(seed, units), np.full(50, 0.1)])
    seen = variation(x)
    assert (seen.rank, seen.unseen.shape) == (3, (5, 2))
    np.testing.assert_allclose(seen.unseen.T @ seen.unseen, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(seen.mean / seen.spread, x.mean(axis=0) / seen.spread, atol=1e-10)
    np.testing.assert_allclose(seen.spread[:4], x[:, :4].std(axis=0), rtol=1e-10)
    away = x - seen.mean
    assert np.abs(away @ seen.unseen).max() <= 1e-12 * np.abs(away).max()  # nothing varies along them
    others = np.linalg.qr(seen.unseen, mode="complete")[0][:, 2:] * seen.spread[:, None]
    assert variation((away / seen.spread) @ np.linalg.qr(others)[0]).rank == 3  # in all others something does


CONSTANT = {
    "zero": np.zeros(40),
    "a number": np.full(40, -0.3),
    "but for its last bit": np.where(np.arange(40) % 2, 1e6, np.nextafter(1e6, 2e6)),
    "computed in two ways": np.where(np.arange(40) % 2, 0.1 + 0.2, 0.3),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_columns_do_not_vary_though_they_be_rounded(name):
    x = np.column_stack([drawn(0, n_samples=40)[:, :2], CONSTANT[name]])
    seen = variation(x)
    np.testing.assert_array_equal(seen.constant, [False, False, True])
    np.testing.assert_array_equal(constant_columns(x), seen.constant)
    np.testing.assert_array_equal(seen.unseen[:, 0], [0, 0, 1])
    assert (seen.rank, seen.spread[2]) == (2, 1)


def test_what_is_rounding_in_float32_varies_in_float64():
    x = 1 + 1e-8 * np.random.default_rng(0).normal(size=(40, 1))
    assert not constant_columns(x).any()
    assert variation(x).rank == 1
    assert constant_columns(x.astype(np.float32)).all()
    assert variation(x.astype(np.float32)).rank == 0


@pytest.mark.parametrize("n_samples", [1, 2, 5])
def test_fewer_samples_than_inputs_are_seen_in_as_many_directions(n_samples):
    """One sample is lost to the mean."""
    x = np.random.default_rng(0).normal(size=(n_samples, 8))
    seen = variation(x)
    assert seen.rank == n_samples - 1
    assert seen.unseen.shape == (8, 8 - seen.rank)
    np.testing.assert_allclose((x - seen.mean) @ seen.unseen, 0, atol=1e-14)


def test_arrays_of_the_device_are_looked_at_as_they_are():
    x = drawn(1)
    for one, other in zip(variation(jnp.asarray(x)), variation(x), strict=True):
        np.testing.assert_array_equal(one, other)
