"""Jumps of the gradient: a layer among straight ones, to rounding."""

import itertools

import numpy as np
import pytest

from ecjax.network import ACTIVATIONS
from ecjax.probe import Reach
from ecjax.probe.jumps import jumps
from ecjax.probe.stack import Weights, answers

EPS = float(np.finfo(float).eps)


def planted(name, shape, number=0, off=1e-6, seed=0):
    """Who answers, the layers below one, that layer with vectors of norm 1, and nearly right."""
    rng, kind = np.random.default_rng(seed), ACTIVATIONS[name]
    draw = lambda n, width: (rng.standard_normal((width, n)) / np.sqrt(n), 0.3 * rng.standard_normal(width))
    layers = [Weights(*draw(*each), kind) for each in itertools.pairwise(shape)]
    norm = np.linalg.norm(layers[number].w, axis=1)
    exact = layers[number]._replace(w=layers[number].w / norm[:, None], b=layers[number].b / norm)
    stack = [*layers[:number], exact, *layers[number + 1 : -1], layers[-1]._replace(activation=None)]
    near = lambda numbers: numbers + off * rng.standard_normal(numbers.shape)
    reach = Reach.of(lambda x: answers(stack, x), np.eye(shape[0]), 2.0)
    return reach, stack[:number], exact, exact._replace(w=near(exact.w), b=near(exact.b))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs"])
@pytest.mark.parametrize("shape", [(6, 6, 3), (6, 6, 4, 3), (6, 6, 5, 4, 3)])
def test_jumps_say_a_layer_to_rounding_whatever_straight_layers_stand_above(name, shape):
    reach, below, exact, near = planted(name, shape)
    found, is_lost = jumps(reach, below, near, precision=EPS, rng=np.random.default_rng(0))
    unit = found.w / np.linalg.norm(found.w, axis=1, keepdims=True)
    good = np.abs(unit - exact.w).max(axis=1) < 1e-10
    assert good.sum() >= 5  # of relu one may be nowhere alone
    np.testing.assert_array_equal(good, ~is_lost)
    np.testing.assert_allclose(np.linalg.norm(found.w, axis=1), np.linalg.norm(near.w, axis=1), rtol=1e-12)
    offset = found.b / np.linalg.norm(found.w, axis=1)
    np.testing.assert_allclose(offset[good], exact.b[good], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "shape", "number"),
    [
        ("abs", (6, 6, 5, 4, 3), 1),
        ("leaky_relu", (6, 6, 4, 3), 1),
        ("leaky_relu", (6, 6, 5, 4, 3), 1),
        ("leaky_relu", (7, 7, 6, 5, 3), 2),  # whose third neuron is on at 400,000 random questions
    ],
)
def test_layers_below_are_no_obstacle(name, shape, number):
    """Though of hidden states that are set, each layer of leaky relu below makes errors a hundred times as large."""
    reach, below, exact, near = planted(name, shape, number)
    found, is_lost = jumps(reach, below, near, precision=EPS, rng=np.random.default_rng(0))
    assert not is_lost.any()
    size = np.linalg.norm(found.w, axis=1)
    np.testing.assert_allclose(found.w / size[:, None], exact.w, atol=1e-9)
    np.testing.assert_allclose(found.b / size, exact.b, atol=1e-9)


def test_a_neuron_that_is_on_wherever_one_draws_is_found():
    """The steepest way leads to where it is off."""
    reach, below, exact, _ = planted("leaky_relu", (6, 6, 5, 4, 3), 1, off=0)
    moved = exact.b + np.array([0, 0, 200, 0, 0])
    rng = np.random.default_rng(3)
    above = [Weights(rng.standard_normal((4, 5)), np.zeros(4), exact.activation), Weights(np.ones((3, 4)), np.zeros(3))]
    stack = [*below, exact._replace(b=moved), *above]
    near = stack[1]._replace(b=moved + 1e-6)
    found, is_lost = jumps(reach._replace(teacher=lambda x: answers(stack, x)), below, near, precision=EPS, rng=rng)
    assert not is_lost.any()
    np.testing.assert_allclose(found.b, moved, rtol=1e-8, atol=1e-8)


def test_a_neuron_that_is_not_where_it_should_be_is_lost_and_no_other():
    reach, below, exact, near = planted("leaky_relu", (6, 6, 5, 4, 3), 1)
    wrong = near._replace(b=near.b + np.array([0, 0, 0, 5.0, 0]))
    found, is_lost = jumps(reach, below, wrong, precision=EPS, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(is_lost, [False, False, False, True, False])
    np.testing.assert_array_equal(found.w[3], wrong.w[3])
    size = np.linalg.norm(found.w, axis=1, keepdims=True)
    np.testing.assert_allclose((found.w / size)[~is_lost], exact.w[~is_lost], atol=1e-8)
