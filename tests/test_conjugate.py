"""Levenberg-Marquardt without a matrix: its parts against matrices, and where it ends."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from ecjax.expand import RefineConfig, refine
from ecjax.expand.conjugate import fit_field, fitted, kronecker_factors, precondition, second_moment, spectrum
from ecjax.network.networks import Layer, Network, random_network, respond
from ecjax.objective.imitation import flatten, gauss_newton, imitation_loss

SHAPES = [(3, 4, 2), (3, 4, 3, 2)]


def factored(shape, n_samples, key, activation="tanh"):
    net_key, x_key = jr.split(key)
    net = random_network(shape, activation, key=net_key)
    x = jr.normal(x_key, (n_samples, shape[0]))
    return net, x, kronecker_factors(net, x, spectrum(second_moment(x)))


def blocks(factors):
    """Each hidden layer's block as a matrix, its parameters in the order [neuron, input and bias]."""
    matrix = lambda part: np.asarray(part.vectors) * np.asarray(part.values) @ np.asarray(part.vectors).T
    return [np.kron(matrix(neurons), matrix(inputs)) for neurons, inputs in factors]


def together(layer):
    return np.concatenate([layer.w, layer.b[:, None]], axis=1).reshape(-1)


def own_blocks(net, x):
    """The blocks of half the Gauss-Newton matrix, output layer included."""
    whole = gauss_newton(net, x, jnp.zeros((len(x), net.shape[-1]))) / 2
    start, cut = 0, []
    for layer in net.layers:
        n_out, n_in = layer.w.shape
        weights = start + np.arange(n_out * n_in).reshape(n_out, n_in)
        order = np.concatenate([weights, start + n_out * n_in + np.arange(n_out)[:, None]], axis=1).reshape(-1)
        cut.append(np.asarray(whole)[np.ix_(order, order)])
        start += n_out * (n_in + 1)
    return cut


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_of_one_sample_the_factors_are_exact(shape, key):
    """The mean of products is the product of means where there is nothing to average."""
    net, x, factors = factored(shape, 1, key)
    for got, wanted in zip(blocks(factors), own_blocks(net, x)[:-1], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12)


def test_preconditioning_inverts_the_damped_blocks(key):
    net, _, factors = factored((3, 4, 3, 2), 50, key)
    solved = precondition(factors, jnp.asarray(1e-3), net)
    for layer, got, block in zip(net.layers, solved.layers, blocks(factors), strict=False):
        back = (block + 1e-3 * np.eye(len(block))) @ together(got)
        np.testing.assert_allclose(back, together(layer), rtol=0, atol=1e-10)
    assert not together(solved.layers[-1]).any()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_output_layer_fits_better(shape, key):
    net, x, _ = factored(shape, 50, key, "softplus")
    y = jr.normal(key, (50, 2))
    best, residual = fitted(net, x, y)
    np.testing.assert_allclose(residual, respond(best, x) - y, rtol=0, atol=1e-9)
    gradient = jax.grad(imitation_loss)(best, x, y).layers[-1]
    np.testing.assert_allclose(together(gradient), 0, atol=1e-10)


def test_copies_share_their_outgoing_weights(key):
    net, x, _ = factored((3, 4, 2), 50, key)
    y = respond(net, x)
    hidden, output = net.layers
    twice = Network(
        (Layer(jnp.tile(hidden.w, (2, 1)), jnp.tile(hidden.b, 2)), Layer(jnp.tile(output.w, (1, 2)), output.b)),
        net.activation,
    )
    best, residual = fitted(twice, x, y)
    np.testing.assert_allclose(residual, 0, atol=1e-11)
    np.testing.assert_allclose(
        best.layers[1].w, jnp.tile(output.w / 2, (1, 2)), rtol=0, atol=1e-2
    )  # rounding shares it


def test_the_field_is_the_loss_and_flat_along_outgoing_weights(key):
    """A change that outgoing weights make good for is none: here, of those weights themselves."""
    net, x, _ = factored((3, 4, 2), 50, key)
    y = jr.normal(key, (50, 2))
    theta, unflatten = flatten(net)
    field = fit_field(net, x, y)
    np.testing.assert_allclose(jnp.sum(field(theta) ** 2), imitation_loss(fitted(net, x, y)[0], x, y), rtol=1e-9)
    outgoing = flatten(Network((jax.tree.map(jnp.zeros_like, net.layers[0]), net.layers[1]), net.activation))[0]
    _, along = jax.jvp(field, (theta,), (outgoing,))
    np.testing.assert_array_equal(along, 0)
    gradient = jax.grad(lambda theta: jnp.sum(field(theta) ** 2))(theta)
    plain = jax.grad(imitation_loss)(fitted(unflatten(theta), x, y)[0], x, y)  # the envelope theorem
    np.testing.assert_allclose(unflatten(gradient).layers[0].w, plain.layers[0].w, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 3, 3)], ids=str)
def test_a_disturbed_teacher_is_found_to_rounding(shape, key):
    """Of targets that a network can meet exactly nothing is left but rounding, at any depth."""
    teacher, x, _ = factored(shape, 300, key)
    start = jax.tree.map(lambda leaf: leaf + 0.03 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), teacher)
    end = jax.jit(lambda net: refine(net, x, respond(teacher, x), solver="conjugate", config=RefineConfig()))(start)
    assert float(end.loss) < 1e-27
