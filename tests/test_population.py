"""The population loss against rules for integrals, automatic differentiation, samples, and its own laws."""

import drawn
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from ecjax.network import ACTIVATIONS, mixture, permute_neurons, respond, split_neuron
from ecjax.objective import Population, Samples, flatten
from ecjax.objective.population_closed import quadrant

SMOOTH = sorted(name for name, one in ACTIVATIONS.items() if one.smooth)
MIXED = {"erf and tanh": mixture(erf=1, tanh=2), "closed": mixture(erf=1, relu=1, normal_cdf=1)}
# One of most kinds in every run: odd and a constant, even, even and a linear part, none. The others are slow.
KINDS = ("sigmoid", "gaussian", "softplus", "g")
SOME = [
    *KINDS,
    *(pytest.param(one, marks=pytest.mark.slow) for one in [*SMOOTH, MIXED["erf and tanh"]] if one not in KINDS),
]
MEAN, COVARIANCE = jnp.array([0.3, -0.2]), jnp.array([[0.8, 0.3], [0.3, 0.6]])


def pair(key, activation, shape=(2, 3, 2)):
    """A student and a teacher with biases, and weight vectors of length one."""

    def one(i):
        net = drawn.network(shape, activation, key=jr.fold_in(key, i))
        moved = lambda leaf: np.asarray(leaf) + 0.3 * np.asarray(drawn.normal(jr.fold_in(key, i + 2), leaf.shape))
        net = jax.tree.map(moved, net)
        w = net.layers[0].w / np.linalg.norm(net.layers[0].w, axis=1, keepdims=True)
        return jax.tree.map(drawn.on_device, eqx.tree_at(lambda net: net.layers[0].w, net, w))

    return one(0), one(1)


@eqx.filter_jit
def derivatives(objective, net):
    """Value, gradient, Hessian and its Gauss-Newton part."""
    curvatures = [objective.curvature(net, exact=exact) for exact in (True, False)]
    return objective.value(net), flatten(objective.gradient(net))[0], *curvatures


@eqx.filter_jit
def value_and_error(objective, net):
    return objective.value(net), objective.error(net)


def grid(teacher, n):
    """Samples on a fine grid of the plane, weighted by the normal density: the trapezoidal rule in two dimensions."""
    u = np.linspace(-9, 9, n)
    plane = np.stack(np.meshgrid(u, u), -1).reshape(-1, 2)
    x = drawn.on_device(np.asarray(MEAN) + plane @ np.linalg.cholesky(np.asarray(COVARIANCE)).T)
    return Samples(x, eqx.filter_jit(respond)(teacher, x), drawn.on_device(np.exp(-np.sum(plane**2, -1) / 2)))


@pytest.mark.parametrize("activation", SOME, ids=str)
def test_it_is_the_integral(activation, key):
    """Value and derivatives agree with the trapezoidal rule over the inputs, an independent way, to 1e-12."""
    net, teacher = pair(key, activation)
    population = Population(teacher, MEAN, COVARIANCE)
    sure = derivatives(grid(teacher, 181), net)
    scale = 1 + float(jnp.abs(sure[2]).max())
    for got, expected in zip(derivatives(population, net), sure, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12 * scale)


@pytest.mark.parametrize(
    "activation",
    [
        "gaussian",
        *(pytest.param(one, marks=pytest.mark.slow) for one in [*SMOOTH, MIXED["erf and tanh"]] if one != "gaussian"),
    ],
    ids=str,
)
def test_twice_the_order_changes_nothing(activation, key):
    net, teacher = pair(key, activation)
    population = Population(teacher, MEAN, COVARIANCE)
    finer = Population(teacher, MEAN, COVARIANCE, order=2 * population.order)
    for got, expected in zip(derivatives(population, net), derivatives(finer, net), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12 * (1 + np.abs(expected).max()))
    assert float(value_and_error(population, net)[1]) < 1e-12


def test_the_stated_error_is_that_of_the_sums(key):
    """Of steep neurons, for which 32 terms are too few."""
    net, teacher = pair(key, "g")
    steep = jax.tree.map(lambda leaf: 2 * leaf, net)
    value, error = value_and_error(Population(teacher, MEAN, COVARIANCE, order=32), steep)
    missed = float(abs(value - eqx.filter_jit(grid(teacher, 241).value)(steep)))
    assert missed > 1e-9
    assert 0.5 * missed < float(error)


@pytest.mark.parametrize("activation", [*SMOOTH, "relu", *MIXED.values()], ids=str)
@pytest.mark.slow
def test_derivatives_are_those_of_the_value(activation, key):
    net, teacher = pair(key, activation)
    population = Population(teacher, MEAN, COVARIANCE)
    theta, unflatten = flatten(net)
    value = lambda theta: population.value(unflatten(theta))
    _, gradient, hessian, _ = derivatives(population, net)
    np.testing.assert_allclose(gradient, jax.grad(value)(theta), atol=1e-10)
    np.testing.assert_allclose(hessian, jax.hessian(value)(theta), atol=1e-10 * (1 + float(jnp.abs(hessian).max())))


@pytest.mark.parametrize("activation", [*SMOOTH, "relu"])
@pytest.mark.slow
def test_a_million_samples_agree_within_four_standard_errors(activation, key):
    """A hundred batches of ten thousand; the Hessian of relu networks is in a test of its own."""
    net, teacher = pair(key, activation)
    population = Population(teacher, MEAN, COVARIANCE)
    x = jr.multivariate_normal(jr.fold_in(key, 7), MEAN, COVARIANCE, (100, 10_000))
    measured = jax.lax.map(lambda x: derivatives(Samples(x, respond(teacher, x)), net), x)
    n_kinds = 2 if activation == "relu" else 4
    for batches, expected in list(zip(measured, derivatives(population, net), strict=True))[:n_kinds]:
        error = jnp.std(batches, axis=0) / 10
        assert np.all(np.abs(batches.mean(axis=0) - expected) <= 4 * error + 1e-13 * (1 + jnp.abs(expected)))


@pytest.mark.slow
def test_the_hessian_of_relus_is_that_of_sampled_gradients(key):
    """Second derivatives of a sample leave out the kinks, where the slope jumps: no sample lies on one, and the share
    of those near it, which is what the expectation has, is seen in differences of gradients only. They are taken over
    0.02 to either side; the third derivative makes an error of 0.02^2 / 6 of its own size, some 1e-3 here.
    """
    net, teacher = pair(key, "relu")
    theta, unflatten = flatten(net)
    x = jr.multivariate_normal(jr.fold_in(key, 7), MEAN, COVARIANCE, (100, 10_000))
    steps = 0.02 * jnp.eye(theta.size)

    def differences(x):
        samples = Samples(x, respond(teacher, x))
        gradient = lambda theta: flatten(samples.gradient(unflatten(theta)))[0]
        return jax.lax.map(lambda step: (gradient(theta + step) - gradient(theta - step)) / 0.04, steps)

    measured = jax.lax.map(differences, x)
    expected = Population(teacher, MEAN, COVARIANCE).curvature(net, exact=True)
    error = jnp.std(measured, axis=0) / 10
    assert np.all(np.abs(measured.mean(axis=0) - expected) <= 4 * error + 1e-3)
    at_samples = jax.lax.map(lambda x: Samples(x, respond(teacher, x)).curvature(net, exact=True), x).mean(axis=0)
    assert float(jnp.abs(at_samples - expected).max()) > 0.03  # the part at the kinks


def test_without_biases_relus_have_arc_cosine_kernels(key):
    """Cho and Saul (NeurIPS 2009): E[relu relu] = |w||v| (sin t + (pi - t) cos t) / 2 pi with t the angle."""
    net, teacher = (drawn.network((4, 3, 1), "relu", key=jr.fold_in(key, i)) for i in range(2))
    w = np.concatenate([np.asarray(one.layers[0].w) for one in (net, teacher)])
    a = np.concatenate([sign * np.asarray(one.layers[1].w)[0] for sign, one in ((1, net), (-1, teacher))])
    size = np.linalg.norm(w, axis=1)
    size = size[:, None] * size[None]
    angle = np.arccos(np.clip(w @ w.T / size, -1, 1))
    kernel = size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    np.testing.assert_allclose(eqx.filter_jit(Population(teacher).value)(net), a @ kernel @ a, atol=1e-14)


@pytest.mark.parametrize(
    "activation", ["softplus", *(pytest.param(one, marks=pytest.mark.slow) for one in ("tanh", "relu", "erf"))]
)
def test_the_teacher_itself_is_exact(activation, key):
    """So are its permutations and its split neurons, where two neurons have a correlation of one."""
    _, teacher = pair(key, activation)
    population = Population(teacher, MEAN, COVARIANCE)
    for net in (teacher, permute_neurons(teacher, [2, 0, 1], layer=0), split_neuron(teacher, 1, layer=0, share=0.3)):
        value, gradient, hessian, _ = derivatives(population, net)
        assert abs(float(value)) < 1e-13
        assert np.abs(gradient).max() < 1e-12
        spectrum = np.linalg.eigvalsh(hessian)
        assert float(spectrum[0]) > -1e-7  # copies of a relu are known to the root of rounding; others to 1e-13
        assert activation == "relu" or float(spectrum[0]) > -1e-13


@pytest.mark.slow
def test_a_neuron_without_weights_is_a_constant(key):
    for activation in ("relu", "erf", "tanh"):
        net, teacher = pair(key, activation)
        net = jax.tree.map(lambda leaf: leaf, net)
        w = net.layers[0].w.at[1].set(0.0)
        net = type(net)((type(net.layers[0])(w, net.layers[0].b + 0.1, net.layers[0].activation), net.layers[1]))
        for got in derivatives(Population(teacher, MEAN, COVARIANCE), net):
            assert bool(jnp.all(jnp.isfinite(got)))
        gradient = flatten(Population(teacher, MEAN, COVARIANCE).gradient(net))[0]
        sure = flatten(grid(teacher, 901 if activation == "relu" else 181).gradient(net))[0]
        np.testing.assert_allclose(gradient, sure, atol=1e-4 if activation == "relu" else 1e-12)


def test_probabilities_of_a_quadrant():
    h, k = (each.reshape(-1) for each in np.meshgrid([-2.5, -0.3, 0.0, 0.3, 1.7], [-1.0, 0.0, 0.3, 2.0]))
    for rho in (-1.0, -0.999, -0.6, 0.0, 0.3, 0.95, 0.99999, 1.0):
        normal = multivariate_normal(cov=[[1, rho], [rho, 1]], allow_singular=True, abseps=1e-13, releps=1e-13)
        expected = [normal.cdf(each) for each in zip(h, k, strict=True)]
        got = jax.jit(quadrant)(h, k, np.full(h.shape, rho))
        np.testing.assert_allclose(got, expected, atol=1e-9)  # where 0.3 meets -0.3 at -0.999, 1e-10


def test_what_it_does_not_know_is_refused(key):
    net, teacher = pair(key, "tanh")
    deep = drawn.network((2, 3, 3, 2), "tanh", key=key)
    relu, _ = pair(key, "relu")
    wide = drawn.network((3, 3, 2), "tanh", key=key)
    for wrong, said in (
        (lambda: Population(deep), "one hidden layer"),
        (lambda: Population(teacher).value(wide), "inputs and outputs"),
        (lambda: Population(pair(key, "abs")[0]), "kinks"),
        (lambda: Population(teacher).value(relu), "Beside relu"),
        (lambda: Population(teacher, jnp.zeros(3)), "of 2 inputs"),
        (lambda: Population(teacher, order=3), "at least 8"),
    ):
        with pytest.raises(ValueError, match=said):
            wrong()
    assert float(value_and_error(Population(teacher), net)[0]) > 0
