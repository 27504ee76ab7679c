"""Jumps of the gradient: a layer below straight layers, to rounding."""

import itertools

import numpy as np
import pytest

from ecjax.network import ACTIVATIONS
from ecjax.probe import Reach
from ecjax.probe.curves import values
from ecjax.probe.jumps import jumps
from ecjax.probe.stack import Weights, answers

EPS = float(np.finfo(float).eps)


def planted(name, shape, seed=0):
    """A teacher, and its first layer with vectors of norm 1, nearly right."""
    rng, kind = np.random.default_rng(seed), ACTIVATIONS[name]
    draw = lambda n, width: (rng.standard_normal((width, n)) / np.sqrt(n), 0.3 * rng.standard_normal(width))
    first, *above = [draw(*each) for each in itertools.pairwise(shape)]
    norm = np.linalg.norm(first[0], axis=1)
    exact = Weights(first[0] / norm[:, None], first[1] / norm, kind)
    stack = [exact, *(Weights(*each, kind) for each in above[:-1]), Weights(*above[-1])]
    near = lambda numbers: numbers + 1e-6 * rng.standard_normal(numbers.shape)
    return (lambda x: answers(stack, x)), exact, exact._replace(w=near(exact.w), b=near(exact.b))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs"])
@pytest.mark.parametrize("shape", [(6, 6, 3), (6, 6, 4, 3), (6, 6, 5, 4, 3)])
def test_jumps_say_a_layer_to_rounding_whatever_straight_layers_stand_above(name, shape):
    teacher, exact, near = planted(name, shape)
    found, is_faint = jumps(Reach.of(teacher, np.eye(6), 2.0), near, precision=EPS, rng=np.random.default_rng(0))
    assert not is_faint.any()
    unit = found.w / np.linalg.norm(found.w, axis=1, keepdims=True)
    good = np.abs(unit - exact.w).max(axis=1) < 1e-10
    assert good.sum() >= 5  # of relu one may be nowhere alone
    np.testing.assert_allclose(np.linalg.norm(found.w, axis=1), np.linalg.norm(near.w, axis=1), rtol=1e-12)
    offset = found.b / np.linalg.norm(found.w, axis=1)
    np.testing.assert_allclose(offset[good], exact.b[good], atol=1e-9)


def test_a_kink_that_is_nearly_nothing_is_faint():
    """Five neurons, and a sixth that speaks a million times less, asked with answers right to 1e-10 only."""
    rng = np.random.default_rng(1)
    w, kind = np.linalg.qr(rng.standard_normal((6, 6)))[0], ACTIVATIONS["leaky_relu"]
    a = rng.standard_normal((3, 6)) * np.array([1, 1, 1, 1, 1, 1e-6])
    teacher = lambda x: values(kind, x @ w.T) @ a.T
    layer = Weights(w, np.zeros(6), kind)
    _, is_faint = jumps(Reach.of(teacher, np.eye(6), 2.0), layer, precision=1e-10, rng=rng)
    np.testing.assert_array_equal(is_faint, [False] * 5 + [True])
