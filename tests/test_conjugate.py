"""Levenberg-Marquardt without a matrix: its preconditioner against the matrix, and where it ends."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from ecjax.expand import RefineConfig, refine
from ecjax.expand.conjugate import answer_field, kronecker_factors, precondition, second_moment, spectrum
from ecjax.imitation import flatten, gauss_newton, jacobian
from ecjax.networks import random_network, respond

SHAPES = [(3, 4, 2), (3, 4, 3, 2)]


def factored(shape, n_samples, key, activation="tanh"):
    net_key, x_key = jr.split(key)
    net = random_network(shape, activation, key=net_key)
    x = jr.normal(x_key, (n_samples, shape[0]))
    return net, x, kronecker_factors(net, x, spectrum(second_moment(x)))


def blocks(factors):
    """Each layer's block as a matrix, its parameters in the order [neuron, input and bias]."""
    matrix = lambda part: np.asarray(part.vectors) * np.asarray(part.values) @ np.asarray(part.vectors).T
    return [np.kron(matrix(neurons), matrix(inputs)) for neurons, inputs in factors]


def own_blocks(net, x):
    """The same blocks of half the Gauss-Newton matrix."""
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
    for got, wanted in zip(blocks(factors), own_blocks(net, x), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_of_the_output_layer_the_factors_are_always_exact(shape, key):
    net, x, factors = factored(shape, 50, key, "softplus")
    np.testing.assert_allclose(blocks(factors)[-1], own_blocks(net, x)[-1], rtol=0, atol=1e-12)


def test_preconditioning_inverts_the_damped_blocks(key):
    net, _, factors = factored((3, 4, 3, 2), 50, key)
    damping = jnp.asarray(1e-3)
    solved = precondition(factors, damping, net)
    for layer, got, block in zip(net.layers, solved.layers, blocks(factors), strict=True):
        together = lambda layer: np.concatenate([layer.w, layer.b[:, None]], axis=1).reshape(-1)
        back = (block + 1e-3 * np.eye(len(block))) @ together(got)
        np.testing.assert_allclose(back, together(layer), rtol=0, atol=1e-10)


def test_answers_are_those_of_the_network_and_so_is_their_derivative(key):
    net, x, _ = factored((3, 4, 3, 2), 20, key)
    theta, _ = flatten(net)
    field = answer_field(net, x)
    scale = np.sqrt(len(x) * 2)
    np.testing.assert_allclose(scale * field(theta), respond(net, x).reshape(-1), rtol=0, atol=1e-12)
    direction = jr.normal(key, theta.shape)
    _, along = jax.jvp(field, (theta,), (direction,))
    np.testing.assert_allclose(scale * along, jacobian(net, x).reshape(len(along), -1) @ direction, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 3, 3)], ids=str)
def test_a_disturbed_teacher_is_found_to_rounding(shape, key):
    """Of targets that a network can meet exactly nothing is left but rounding, at any depth."""
    teacher, x, _ = factored(shape, 300, key)
    start = jax.tree.map(lambda leaf: leaf + 0.03 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), teacher)
    end = jax.jit(lambda net: refine(net, x, respond(teacher, x), solver="conjugate", config=RefineConfig()))(start)
    assert float(end.loss) < 1e-27
