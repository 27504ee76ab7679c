"""Levenberg-Marquardt without a matrix: its parts against matrices, and where it ends."""

import drawn
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from ecjax.expand import Conjugate, Inexact, Stopping
from ecjax.expand.conjugate import At, fit_field, fitted, kronecker_factors, precondition, second_moment, spectrum
from ecjax.expand.inexact import conjugate_gradients
from ecjax.judge import Judge
from ecjax.network import Layer, Network, mixture, respond
from ecjax.network.moves import take_neurons
from ecjax.objective import Samples, flatten
from ecjax.reconstruct import finetune

SHAPES = [(3, 4, 2), (3, 4, 3, 2)]


def problem(shape, n_samples, key, activation="tanh"):
    """A network, queries, and targets that it does not meet."""
    net_key, x_key = jr.split(key)
    net = drawn.network(shape, activation, key=net_key)
    return net, Samples(drawn.normal(x_key, (n_samples, shape[0])), drawn.normal(key, (n_samples, shape[-1])))


@jax.jit
def factored(net, x):
    return kronecker_factors(net, x, spectrum(second_moment(x)), jax.tree.map(jnp.ones_like, net))


def blocks(factors):
    """Each layer's block as a matrix, its parameters in the order [neuron, input and bias]."""
    matrix = lambda part: np.asarray(part.vectors) * np.asarray(part.values) @ np.asarray(part.vectors).T
    return [np.kron(matrix(neurons), matrix(inputs)) for neurons, inputs in factors]


def together(layer):
    return np.concatenate([layer.w, layer.b[:, None]], axis=1).reshape(-1)


def own_blocks(net, samples):
    """The blocks of half the Gauss-Newton matrix, output layer included."""
    whole = jax.jit(lambda net: samples.curvature(net, exact=False))(net) / 2
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
    net, samples = problem(shape, 1, key, "tanh" if len(shape) > 3 else mixture(tanh=2, softplus=2))
    for got, wanted in zip(blocks(factored(net, samples.x)), own_blocks(net, samples), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12)


def test_preconditioning_inverts_the_damped_blocks(key):
    net, samples = problem((3, 4, 3, 2), 50, key)
    factors = factored(net, samples.x)
    solved = jax.jit(precondition)(factors, 1e-3, net)
    for layer, got, block in zip(net.layers, solved.layers, blocks(factors), strict=True):
        back = (block + 1e-3 * np.eye(len(block))) @ together(got)
        np.testing.assert_allclose(back, together(layer), rtol=0, atol=1e-10)


def weighted(samples):
    """The same samples, some of which count more, some not at all."""
    return Samples(samples.x, samples.y, jnp.arange(len(samples.x), dtype=samples.x.dtype) % 3)


def alike(samples):
    return samples


@pytest.mark.parametrize(
    ("shape", "weigh"),
    [
        (SHAPES[0], alike),
        (SHAPES[1], weighted),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((SHAPES[0], weighted), (SHAPES[1], alike))),
    ],
)
def test_no_output_layer_fits_better(shape, weigh, key):
    net, samples = problem(shape, 50, key, "softplus")
    samples = weigh(samples)
    best, errors = jax.jit(fitted)(net, samples)
    np.testing.assert_allclose(errors, jax.jit(respond)(best, samples.x) - samples.y, rtol=0, atol=1e-9)
    gradient = eqx.filter_jit(samples.gradient)(best).layers[-1]
    np.testing.assert_allclose(together(gradient), 0, atol=1e-10)


def test_copies_share_their_outgoing_weights(key):
    net, samples = problem((3, 4, 2), 50, key)
    hidden, output = net.layers
    inner = Layer(jnp.tile(hidden.w, (2, 1)), jnp.tile(hidden.b, 2), hidden.activation)
    twice = Network((inner, Layer(jnp.tile(output.w, (1, 2)), output.b)))
    best, errors = jax.jit(fitted)(twice, samples.with_answers(respond(net, samples.x)))
    np.testing.assert_allclose(errors, 0, atol=1e-11)
    np.testing.assert_allclose(
        best.layers[1].w, jnp.tile(output.w / 2, (1, 2)), rtol=0, atol=1e-2
    )  # rounding shares it


@pytest.mark.parametrize("weigh", [pytest.param(alike, marks=pytest.mark.slow), weighted])
def test_the_field_is_the_loss_and_flat_along_outgoing_weights(weigh, key):
    """A change that outgoing weights make good for is none: here, of those weights themselves."""
    net, samples = problem((3, 4, 2), 50, key)
    samples = weigh(samples)
    theta, unflatten = flatten(net)
    outgoing = flatten(Network((jax.tree.map(jnp.zeros_like, net.layers[0]), net.layers[1])))[0]

    @jax.jit
    def measured(theta):
        field, best = fit_field(net, samples), fitted(unflatten(theta), samples)[0]
        loss, gradient = jax.value_and_grad(lambda theta: jnp.sum(field(theta) ** 2))(theta)
        along = jax.jvp(field, (theta,), (outgoing,))[1]
        return (loss, samples.value(best)), along, (unflatten(gradient), samples.gradient(best))

    (loss, plain_loss), along, (gradient, plain) = measured(theta)
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-9)
    np.testing.assert_array_equal(along, 0)
    # The envelope theorem: the output layer is where no change of it helps.
    np.testing.assert_allclose(gradient.layers[0].w, plain.layers[0].w, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("weights", [None, pytest.param("some", marks=pytest.mark.slow)])
def test_a_quick_step_solves_the_damped_system(weights, dtype, key):
    """Against the matrix, for a network whose step is found within the products that are allowed."""
    net, samples = problem((3, 4, 2), 50, key)
    if weights is not None:  # some of the samples count more, some not at all
        samples = Samples(samples.x, samples.y, jnp.arange(50.0) % 3)
    net, samples = jax.tree.map(lambda leaf: leaf.astype(dtype), (net, samples))
    theta, unflatten = flatten(net)
    free = jnp.arange(theta.size) % 5 != 0  # the others stay

    @jax.jit
    def stepped(theta):
        search = Inexact().search(net, samples, free)
        descent, residuals = search.solver.descent, search.fn(theta)
        gradient = samples.products(unflatten(theta))[1](residuals)
        factors = descent.factors(theta)
        state = At(theta, jnp.linalg.norm(residuals), gradient, factors)
        return descent.step(jnp.asarray(0.1, dtype), state)[0], gradient, jnp.linalg.norm(residuals)

    step, gradient, error = (np.asarray(each, float) for each in stepped(theta))
    matrix = np.asarray(samples.curvature(net, exact=False), float) / 2 + float(error) * 0.1 * np.eye(theta.size)
    free = np.asarray(free)

    def solved(b):
        solution = np.zeros(theta.size)
        solution[free] = np.linalg.solve(matrix[np.ix_(free, free)], b[free])
        return solution

    straight = solved(-gradient)
    turn = -solved(np.asarray(samples.bend(net, jnp.asarray(straight, dtype)), float) / 2) / 2
    is_followed = 2 * np.linalg.norm(turn) <= 0.75 * np.linalg.norm(straight)
    wanted = straight + is_followed * turn
    np.testing.assert_array_equal(step[~free], 0)
    assert np.linalg.norm(step - wanted) < 0.05 * np.linalg.norm(wanted)  # products stop where they do not pay


@pytest.mark.parametrize("condition", [1e1, 1e4])
def test_products_go_on_as_long_as_they_pay(condition, key):
    """The quadratic model is at its minimum but for some percent, after far fewer products than there are unknowns."""
    n = 300
    turned = np.linalg.qr(np.asarray(jr.normal(key, (n, n))))[0]
    matrix = jnp.asarray((turned * np.geomspace(1 / condition, 1, n)) @ turned.T)
    b = jr.normal(jr.fold_in(key, 1), (n,))
    counted = []
    product = lambda v: jax.debug.callback(lambda: counted.append(1)) or matrix @ v
    step = conjugate_gradients(product, b, lambda v: v, most=n)
    model = lambda v: float(v @ matrix @ v / 2 - b @ v)
    best = model(jnp.linalg.solve(matrix, b))
    assert best <= model(step) <= 0.95 * best
    assert len(counted) < n
    assert float(jnp.linalg.norm(conjugate_gradients(product, 0 * b, lambda v: v, most=n))) == 0


def test_a_disturbed_deep_teacher_is_found_to_rounding(key):
    """Of targets that a network can meet exactly nothing is left but rounding (shallow ones: test_expand)."""
    teacher, samples = problem((5, 4, 3, 3), 300, key)
    samples = samples.with_answers(respond(teacher, samples.x))
    wave = lambda leaf: drawn.on_device(leaf + 0.03 * np.cos(np.arange(leaf.size)).reshape(leaf.shape))
    start = jax.tree.map(lambda leaf: wave(np.asarray(leaf)), teacher)
    end = jax.jit(Conjugate())(start, samples)
    assert float(end.loss) < 1e-27


def test_quick_steps_bring_a_wide_deep_student_near(key):
    """One with twice the neurons, in float64: to a loss that float32 residuals would not show."""
    teacher, samples = problem((5, 3, 3, 3), 300, key)
    samples = samples.with_answers(respond(teacher, samples.x))
    student = drawn.network((5, 6, 6, 3), "tanh", key=jr.fold_in(key, 1))
    end = jax.jit(Inexact(Stopping(max_steps=60)))(student, samples)
    assert float(end.loss) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("lacks", [0, 1], ids=["whole", "lacking"])
def test_a_large_deep_network_is_refined_to_rounding_or_let_go(lacks, key):
    """Quick steps, then careful ones where they are worth it: a network that lacks a neuron is not."""
    teacher = drawn.network((30, 24, 16, 4), "tanh", key=key)
    samples = Samples(x := drawn.normal(jr.fold_in(key, 1), (4000, 30)), respond(teacher, x))
    narrow = take_neurons(teacher, range(lacks, 24), layer=0)
    start = jax.tree.map(lambda leaf: leaf + 0.01 * drawn.normal(jr.fold_in(key, leaf.size), leaf.shape), narrow)
    judge = Judge.of(samples)
    net, loss = finetune(start, samples, stop=Stopping(), judge=judge)
    assert judge.fits(loss) == (lacks == 0)
    np.testing.assert_allclose(loss, samples.value(net), rtol=1e-3)
