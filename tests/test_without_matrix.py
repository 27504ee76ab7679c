"""Bounds of a Jacobian that is never written down: they hold, they find what is not determined, they know when."""

import drawn
import jax
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax.judge import Judge, certificate
from ecjax.judge.certificate import spectrum
from ecjax.judge.extremes import extremes
from ecjax.judge.jacobian import answers_by_weights
from ecjax.judge.without_matrix import determined, families
from ecjax.network import split_neuron
from ecjax.network.moves import with_unit_vectors
from ecjax.probe import Reach
from ecjax.road import asking

LOOK = {"numbers_for_each": 2.0, "affordable": np.inf}


@pytest.mark.parametrize("gap", [1e-6, 1e-2, 1.0])
@pytest.mark.parametrize("most", [5, 30, 1000])
def test_the_spectrum_is_between_the_bounds(gap, most):
    """Whatever the gap beside the smallest eigenvalue, and however few the products."""
    rng = np.random.default_rng(0)
    values = np.concatenate([[0.01], 0.01 + gap + rng.uniform(0, 3, 119)])
    vectors = np.linalg.qr(rng.standard_normal((120, 120)))[0]
    matrix = (vectors * values) @ vectors.T
    for seed in range(5):
        start = np.random.default_rng(seed).standard_normal(120)
        found = extremes(lambda v: matrix @ v, start, 120, most=most)
        assert found.low <= 0.01 * (1 + 1e-9)
        assert found.inside >= 0.01 * (1 - 1e-9)
        assert found.high >= values.max() * (1 - 1e-9)
    if most > 120:
        assert found.low > 0


def in_families(network, *, seed=0):
    """As the road asks of a network with many inputs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "is_small", lambda network: False)
        reach = Reach.of(lambda x: x, np.eye(network.shape[0]), 2.0)
        return drawn.on_device(asking._in_families(network, np.random.default_rng(seed), reach))


def exactly(network, x, residuals, y_scale):
    """|J^+ r|, with the matrix."""
    j = np.asarray(answers_by_weights(network, x)) / y_scale[None, :, None]
    j = j.reshape(-1, network.n_parameters)
    return float(np.linalg.norm(np.linalg.lstsq(j, residuals.reshape(-1), rcond=1e-12)[0]))


@pytest.mark.parametrize(("shape", "activation"), [((12, 4, 3), "tanh"), ((12, 4, 3), "relu"), ((12, 4, 3, 2), "relu")])
def test_the_distance_is_no_less_than_with_the_matrix(shape, activation):
    network = drawn.network(shape, activation, key=jr.key(1), biases=0.5)
    x = in_families(network)
    y_scale = np.asarray(ec.respond(network, x)).std(axis=0)
    for seed in range(3):
        residuals = 1e-6 * np.random.default_rng(seed).standard_normal((len(x), len(y_scale)))
        found = determined(network, x, residuals, y_scale, **LOOK)
        assert found is not None
        wanted = exactly(network, x, residuals, y_scale)
        assert wanted <= found.distance < 1000 * wanted
        singular = spectrum(network, x, y_scale=y_scale)
        assert found.condition >= 0.5 * singular[0] / singular[-1]  # of parts, each over its own numbers


def test_in_float32_products_are_not_asked():
    """They would say little of small singular values, and need not be looked at by the test of precision."""
    network = drawn.network((5, 4, 2), "tanh", key=jr.key(1), dtype="float32")
    x = drawn.queries(80, 5, key=jr.key(2)).astype("float32")
    assert determined(network, x, np.zeros((80, 2)), np.ones(2), **LOOK) is None


def test_without_families_a_network_is_looked_at_as_it_is():
    network = drawn.network((5, 4, 2), "tanh", key=jr.key(1), biases=0.5)
    x = drawn.queries(80, 5, key=jr.key(2))
    y_scale = np.asarray(ec.respond(network, x)).std(axis=0)
    residuals = 1e-6 * np.random.default_rng(0).standard_normal((80, 2))
    found = determined(network, x, residuals, y_scale, **LOOK)
    assert found is not None
    assert exactly(network, x, residuals, y_scale) <= found.distance < np.inf
    assert determined(network, x, residuals, y_scale, numbers_for_each=2.0, affordable=1.0) is None
    assert determined(network, x[:20], residuals[:20], y_scale, **LOOK) is None  # too few numbers
    unvarying = x.at[:, 1].set(0.5)
    assert determined(network, unvarying, residuals, y_scale, **LOOK) is None


def test_families_are_known_by_their_pre_activations():
    network = drawn.network((12, 4, 3), "tanh", key=jr.key(1), biases=0.5)
    x = in_families(network)
    found = families(network, x)
    assert found is not None
    assert len(found.directions) == 12 - 4
    assert len(found.first) + len(found.moved) == len(x)
    assert 2 * network.n_parameters <= 3 * len(x) <= 3 * network.n_parameters  # numbers
    steps = found.step[:, None] * found.directions[found.along]
    np.testing.assert_allclose(np.asarray(x)[found.of] + steps, np.asarray(x)[found.moved], atol=1e-12)
    off = np.asarray(network.layers[0].w)[0]
    for broken in (drawn.queries(200, 12, key=jr.key(3)), x.at[found.moved[0]].add(1e-3 * off)):
        again = families(network, broken)
        assert again is None or len(again.first) == len(found.first) + 1  # a family of its own
    assert families(network, x.at[found.moved[0]].add(1e-3 * found.directions[(found.along[0] + 1) % 8])) is None


@pytest.fixture
def without_matrix(monkeypatch):
    monkeypatch.setattr(certificate, "_WITHOUT_MATRIX", np.inf)
    return {"affordable": 1e3}


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_teacher_is_certified_and_nothing_beside_it(activation, without_matrix):
    teacher = with_unit_vectors(drawn.network((12, 4, 3), activation, key=jr.key(1), biases=0.5))
    x = in_families(teacher)
    y = ec.respond(teacher, x)
    given = ec.certify(teacher, x, y, **without_matrix)
    assert given.certified, given.doubts
    assert given.condition is not None
    assert given.pre_activation_bound is not None
    theta, unflatten = jax.flatten_util.ravel_pytree(teacher)
    shift = 1e-7 * drawn.normal(jr.key(5), theta.shape)
    near = unflatten(theta + shift)
    x = in_families(near)
    given = ec.certify(near, x, ec.respond(teacher, x), **without_matrix)
    assert not given.certified
    if activation == "tanh":  # of relu, a part of the shift is one of scales
        assert float(np.linalg.norm(shift)) <= 1.1 * given.parameter_bound


def test_a_neuron_too_many_is_not_certified(without_matrix):
    teacher = drawn.network((12, 3, 3), "tanh", key=jr.key(1), biases=0.5)
    wide = split_neuron(teacher, 0, layer=0, share=0.3)
    for x in (in_families(teacher), drawn.queries(200, 12, key=jr.key(2))):
        y = ec.respond(teacher, x)
        assert Judge.of(ec.Samples(x, y)).fits(float(np.mean((ec.respond(wide, x) - y) ** 2)))
        assert not ec.certify(wide, x, y, **without_matrix).certified
