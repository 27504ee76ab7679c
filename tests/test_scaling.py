"""Scaling and its undoing: the network that comes back does on plain data what the other does on scaled data."""

import drawn
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecjax.network import ACTIVATIONS, Layer, Network, mixture, respond
from ecjax.objective.scaling import scaling

MODES = ["columns", "common", "no"]


def affine_data(seed, n_independent, kinds, n_outputs, n_samples=40):
    """Inputs of many units and offsets, `kinds` of columns beside the independent ones, and targets."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n_samples, n_independent)) * 10.0 ** draw.uniform(-2, 2, n_independent)
    x += draw.normal(size=n_independent)
    extra = {"constant": np.full(n_samples, draw.normal()), "zero": np.zeros(n_samples)}
    extra["dependent"] = x @ draw.normal(size=n_independent) + draw.normal()
    x = np.column_stack([x, *(extra[kind] for kind in kinds)])[:, draw.permutation(n_independent + len(kinds))]
    y = draw.normal(size=(n_samples, n_outputs)) * 10.0 ** draw.uniform(-3, 3, n_outputs) + draw.normal(size=n_outputs)
    return jnp.asarray(x), jnp.asarray(y)


# Few sizes, since every one compiles; many data.
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kinds=st.sampled_from([(), ("constant", "dependent"), ("zero", "constant")]),
    mode=st.sampled_from(MODES),
)
def test_undo_gives_the_network_that_does_the_same_on_plain_data(seed, kinds, mode):
    x, y = affine_data(seed, 3, kinds, n_outputs=2)
    scale = scaling(x, y, standardise=mode)
    inputs, targets = scale.inputs(x), scale.targets(y)
    assert scale.n_hidden_directions == len(kinds)
    assert inputs.shape == (len(x), 3)
    constant = np.ptp(np.asarray(x), axis=0) == 0
    np.testing.assert_array_equal(scale.constant_inputs, np.flatnonzero(constant))
    net = drawn.network((3, 4, 2), mixture(tanh=3, relu=1), key=jr.key(seed))
    linear = np.random.default_rng(seed).normal(size=(2, 3))

    plain, skip = scale.undo(net, linear)
    assert plain.activations == net.activations
    np.testing.assert_array_equal(plain.layers[0].w[:, constant], 0)
    scaled_answers = np.asarray(respond(net, inputs) + inputs @ linear.T)
    wanted = scaled_answers * np.asarray(y).std(0) + np.asarray(y).mean(0)
    got = respond(plain, x) + x @ skip.w.T + skip.b[None]
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-10 * np.abs(wanted).max())
    # The loss is in units of the targets' variance, whatever their units.
    np.testing.assert_allclose(np.asarray(targets).mean(0), 0, atol=1e-10)
    np.testing.assert_allclose(np.asarray(targets).std(0), 1, rtol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_directions_that_do_not_vary_get_weight_zero(mode, key):
    x, y = affine_data(0, 3, ("constant",), n_outputs=1)
    constant = int(np.flatnonzero(np.ptp(np.asarray(x), axis=0) == 0)[0])
    net, skip = scaling(x, y, standardise=mode).undo(drawn.network((3, 4, 1), "g", key=key), np.zeros((1, 3)))
    assert skip is None
    np.testing.assert_array_equal(net.layers[0].w[:, constant], 0)

    # Two columns that are copies of each other: only the sum of their weights is visible, and is shared evenly.
    x = jnp.column_stack([x[:, (constant + 1) % 4], x[:, (constant + 1) % 4]])
    scale = scaling(x, y, standardise=mode)
    assert scale.n_hidden_directions == 1
    net, _ = scale.undo(drawn.network((1, 4, 1), "g", key=key), np.zeros((1, 1)))
    np.testing.assert_allclose(net.layers[0].w[:, 0], net.layers[0].w[:, 1], rtol=1e-10)


def test_each_mode_does_what_it_is_called():
    x, y = affine_data(1, 3, (), n_outputs=1)
    spread = lambda mode: np.asarray(scaling(x, y, standardise=mode).inputs(x)).std(0)
    np.testing.assert_allclose(spread("columns"), 1, rtol=1e-10)
    common = spread("common") / np.asarray(x).std(0)
    np.testing.assert_allclose(common, common[0], rtol=1e-10)
    np.testing.assert_allclose(np.mean(spread("common") ** 2), 1, rtol=1e-10)
    np.testing.assert_array_equal(scaling(x, y, standardise="no").inputs(x), x)


def test_rounding_noise_in_a_column_is_not_variation():
    """A constant computed in two ways differs in its last bit; magnified to variance 1 it would be an input."""
    x, y = affine_data(2, 2, (), n_outputs=1)
    nearly = np.where(np.arange(len(x)) % 2, 1e6, np.nextafter(1e6, 2e6))
    assert scaling(jnp.column_stack([x, nearly]), y).n_hidden_directions == 1


def test_a_small_input_is_not_taken_for_the_rounding_of_large_ones():
    """Large columns that depend on each other leave rounding errors as large as what the small one says.

    Seen in units of their own spread they are told apart; in common units it is lost, as whoever asks for these says.
    """
    z = np.random.default_rng(0).normal(size=(200, 3))
    x = np.column_stack([1e4 * z[:, :2], 1e4 * (z[:, 0] + 0.3 * z[:, 1]), 1e-4 * z[:, 2]]).astype(np.float32)
    x, y = jnp.asarray(x), jnp.asarray(z[:, :1].astype(np.float32))
    inputs = np.asarray(scaling(x, y).inputs(x), float)
    assert inputs.shape == (200, 3)
    basis = np.column_stack([inputs / inputs.std(axis=0), np.ones(200)])
    left = z - basis @ np.linalg.lstsq(basis, z, rcond=None)[0]
    assert left.std(axis=0).max() < 1e-4  # all three are there to be seen


@pytest.mark.parametrize("mode", ["common", "no"])
def test_of_inputs_on_one_scale_the_directions_that_vary_most_are_kept(mode):
    """As orthonormal ones of that scale: nothing leaks in from those that are left out, here of rounding size."""
    draw = np.random.default_rng(0)
    z, mixing = draw.normal(size=(300, 3)), np.linalg.qr(draw.normal(size=(6, 6)))[0]
    x = jnp.asarray(z @ mixing[:3] + 1e-9 * draw.normal(size=(300, 3)) @ mixing[3:], jnp.float32)
    scale = scaling(x, x[:, :1], standardise=mode)
    factor = np.linalg.norm(scale.x_map, axis=1)
    np.testing.assert_allclose(scale.x_map @ scale.x_map.T, np.diag(factor**2), atol=1e-10)
    np.testing.assert_allclose(factor, factor[0], rtol=1e-10)
    np.testing.assert_allclose(scale.x_map / factor[:, None] @ mixing[3:].T, 0, atol=1e-5)


def test_undo_reaches_through_deep_networks_and_keeps_their_dtype(key):
    x, y = (array.astype(jnp.float32) for array in affine_data(3, 3, (), n_outputs=2))
    net = drawn.network((3, 4, 5, 2), "tanh", key=key, dtype=jnp.float32)
    scale = scaling(x, y)
    inputs = scale.inputs(x)
    plain, skip = scale.undo(net, np.zeros((2, 3)))
    assert skip is None
    assert inputs.dtype == plain.layers[0].w.dtype == plain.layers[-1].b.dtype == jnp.float32
    np.testing.assert_array_equal(plain.layers[1].w, net.layers[1].w)
    wanted = np.asarray(respond(net, inputs)) * scale.y_scale + scale.y_mean
    np.testing.assert_allclose(respond(plain, x), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_the_teacher_comes_back_from_the_student_that_equals_it_on_scaled_data():
    """A round trip by hand: the teacher in scaled units, undone, is the teacher."""
    x, _ = affine_data(4, 3, (), n_outputs=1)
    w, b, a, c = np.array([[0.3, -1.0, 0.2], [1.0, 0.5, -0.7]]), np.array([0.1, -0.4]), np.array([[2.0, -3.0]]), [5.0]
    tanh = ACTIVATIONS["tanh"]
    teacher = Network((Layer(jnp.array(w), jnp.array(b), tanh), Layer(jnp.array(a), jnp.array(c))))
    scale = scaling(x, respond(teacher, x))
    back = np.linalg.inv(scale.x_map)
    scaled = Network(
        (
            Layer(jnp.array(w @ back), jnp.array(b + w @ scale.x_mean), tanh),
            Layer(jnp.array(a / scale.y_scale[:, None]), jnp.array((c - scale.y_mean) / scale.y_scale)),
        )
    )
    again, _ = scale.undo(scaled, np.zeros((1, 3)))
    for got, wanted in zip((again.layers[0].w, again.layers[0].b, again.layers[1].w), (w, b, a), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(again.layers[1].b, c, rtol=1e-9)
