"""Objectives: closed forms are the derivatives of the value, and what the solvers' fields promise."""

import drawn
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest

import ecjax.objective.gram
from ecjax.network import ACTIVATIONS, Network, mixture, permute_neurons, respond
from ecjax.objective import Objective, Samples, flatten, gradient_field, imitation_loss, residual_field

# One activation of each kind in every run, odd and even ones in the mixture; the others' derivatives are tested by
# themselves, with the activations. One output, or samples that all count alike, take the same way through the code, so
# a few activations speak for all.
KINDS = ("g", "softplus", "relu")
CASES = [
    *((name, (3, 4, 2), True) for name in KINDS),
    ("g", (3, 4, 1), False),
    ("mixture", (3, 4, 2), False),
]
OTHERS = [
    *((name, (3, 4, 2), True) for name in ACTIVATIONS if name not in KINDS),
    *((name, (3, 4, 1), False) for name in ("tanh", "softplus", "relu")),
]


def problem(shape, activation, key, n_samples=12, weighted=False):
    """A student with biases, queries, and targets that it does not meet."""
    net_key, theta_key, x_key, y_key, weight_key = jr.split(key, 5)
    activation = mixture(tanh=1, relu=2, gaussian=1) if activation == "mixture" else activation
    theta, unflatten = flatten(drawn.network(shape, activation, key=net_key))
    net = unflatten(theta + 0.3 * drawn.normal(theta_key, theta.shape))
    weights = jr.uniform(weight_key, (n_samples,)) if weighted else None
    return net, Samples(
        drawn.normal(x_key, (n_samples, shape[0])), drawn.normal(y_key, (n_samples, shape[-1])), weights
    )


def assert_close(got, wanted, name=""):
    """To 1e-12 of the largest entry."""
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * float(jnp.max(jnp.abs(wanted))), err_msg=name)


def vector(net):
    return flatten(net)[0]


# --- closed forms are what automatic differentiation finds ---------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "shape", "weighted"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)]
)
def test_closed_forms_are_the_automatic_derivatives(activation, shape, weighted, key):
    net, samples = problem(shape, activation, key, weighted=weighted)
    theta, unflatten = flatten(net)

    @jax.jit
    def compared(theta):
        net = unflatten(theta)
        loss, residuals = (lambda theta, fn=fn: fn(unflatten(theta)) for fn in (samples.value, samples.residuals))
        j = jax.jacrev(residuals)(theta)
        return {
            "value": (samples.value(net), jnp.sum(samples.residuals(net) ** 2)),
            "gradient": (vector(samples.gradient(net)), 2 * j.T @ residuals(theta)),
            "jacobian": (samples.jacobian(net), j),
            "gauss_newton": (samples.curvature(net, exact=False), 2 * j.T @ j),
            "hessian": (samples.curvature(net, exact=True), jax.hessian(loss)(theta)),
        }

    for name, (got, wanted) in compared(theta).items():
        assert_close(got, wanted, name)


@pytest.mark.parametrize(
    ("shape", "weighted"),
    [
        ((3, 4, 3, 2), False),
        ((3, 2), True),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [((3, 4, 2), True), ((3, 4, 2), False), ((3, 4, 3, 2), True)]
        ),
    ],
)
def test_any_depth_answers_behind_the_same_methods(shape, weighted, key):
    """Derivatives against central differences, whose error here is about 1e-10, and products against matrices."""
    net, samples = problem(shape, "tanh", key, weighted=weighted)
    theta, unflatten = flatten(net)
    step = drawn.normal(jr.key(7), theta.shape)
    u = drawn.normal(jr.key(8), (samples.y.size,))

    @jax.jit
    def compared(theta):
        residuals = lambda theta: samples.residuals(unflatten(theta))
        loss, slopes = (lambda theta, fn=fn: fn(unflatten(theta)) for fn in (samples.value, samples.gradient))
        steps = 1e-5 * jnp.eye(theta.size)
        slope = lambda fn: jax.vmap(lambda h: (fn(theta + h) - fn(theta - h)) / 2e-5, out_axes=-1)(steps)
        second = (residuals(theta + 1e-4 * step) - 2 * residuals(theta) + residuals(theta - 1e-4 * step)) / 1e-8
        net, j = unflatten(theta), slope(residuals)
        along, back = samples.products(net)
        return {
            "gradient": (vector(samples.gradient(net)), slope(loss)),
            "jacobian": (samples.jacobian(net), j),
            "hessian": (samples.curvature(net, exact=True), slope(lambda theta: vector(slopes(theta)))),
            "gauss_newton": (samples.curvature(net, exact=False), 2 * j.T @ j),
            "J v": (along(step), j @ step),
            "J^T u": (back(u), j.T @ u),
            "bend": (samples.bend(net, step), 2 * j.T @ second),
        }

    for name, (got, wanted) in compared(theta).items():
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6 if name == "bend" else 1e-8, err_msg=name)


def test_the_value_is_the_mean_square_of_the_errors(key):
    net, samples = problem((3, 4, 2), "g", key)
    by_hand = np.asarray(respond(net, samples.x)) - np.asarray(samples.y)
    np.testing.assert_allclose(samples.errors(net), by_hand, rtol=1e-13)
    np.testing.assert_allclose(samples.value(net), np.square(by_hand).mean(), rtol=1e-13)
    np.testing.assert_allclose(imitation_loss(net, samples.x, samples.y), np.square(by_hand).mean(), rtol=1e-13)
    weighted = Samples(samples.x, samples.y, jnp.arange(12.0))
    by_hand = np.average(np.square(by_hand).mean(axis=1), weights=np.arange(12.0))
    np.testing.assert_allclose(weighted.value(net), by_hand, rtol=1e-13)


# --- weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 4, 2), pytest.param((3, 4, 3, 2), marks=pytest.mark.slow)], ids=str)
def test_integer_weights_are_repeated_samples(shape, key):
    net, samples = problem(shape, "softplus", key)
    times = np.array([2, 0, 1, 1, 3, 1, 0, 1, 1, 2, 1, 1])
    repeated = samples.take(np.repeat(np.arange(12), times))

    @jax.jit
    def measured(samples, net):
        curvatures = [samples.curvature(net, exact=exact) for exact in (True, False)]
        return [samples.value(net), vector(samples.gradient(net)), *curvatures]

    for unit in (1.0, 7.3):  # of weights: any
        weighted = Samples(samples.x, samples.y, unit * jnp.asarray(times, float))
        for got, wanted in zip(measured(weighted, net), measured(repeated, net), strict=True):
            assert_close(got, wanted)


@pytest.mark.parametrize("weighted", [False, True])
def test_shares_add_up_to_one(weighted, key):
    _, samples = problem((3, 4, 2), "g", key, weighted=weighted)
    assert float(np.broadcast_to(samples.share, samples.y.shape).sum()) == pytest.approx(1, rel=1e-14)


def test_samples_are_taken_with_their_weights_and_answers_replaced(key):
    net, samples = problem((3, 4, 2), "g", key, weighted=True)
    some = samples.take(slice(5))
    assert (some.x.shape, some.y.shape, some.weights.shape) == ((5, 3), (5, 2), (5,))
    assert (samples.n_numbers, some.n_numbers) == (24, 10)
    met = samples.with_answers(respond(net, samples.x))
    assert float(met.value(net)) < 1e-30
    assert met.weights is samples.weights


def test_rows_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # whose checks stand before ecjax's own
    with pytest.raises(ValueError, match="`x` and `y` have one row a sample; got 3 and 2 rows"):
        Samples(jnp.zeros((3, 2)), jnp.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"`weights` has a number for each of 3 samples; got shape \(2,\)"):
        Samples(jnp.zeros((3, 2)), jnp.zeros((3, 1)), jnp.ones(2))


# --- laws ----------------------------------------------------------------------------------------------------------


def test_a_student_that_is_the_teacher_has_no_gradient_and_a_positive_hessian(key):
    net, samples = problem((3, 4, 2), "tanh", key, n_samples=40)
    samples = samples.with_answers(respond(net, samples.x))
    exact, linearised = (eqx.filter_jit(samples.curvature)(net, exact=exact) for exact in (True, False))
    assert float(jnp.linalg.norm(vector(eqx.filter_jit(samples.gradient)(net)))) < 1e-15
    assert_close(exact, linearised)
    assert np.linalg.eigvalsh(exact).min() > 0


def test_neurons_may_trade_places(key):
    """The loss does not know the order of neurons, and its derivatives move with them."""
    net, samples = problem((3, 4, 2), "softplus", key, weighted=True)
    order = jnp.array([2, 0, 3, 1])
    permuted = permute_neurons(net, order, layer=0)
    labels = flatten(net)[1](jnp.arange(float(net.n_parameters)))  # which parameter stands where
    moved = vector(permute_neurons(labels, order, layer=0)).astype(int)

    @jax.jit
    def measured(net):
        return samples.value(net), vector(samples.gradient(net)), samples.jacobian(net), samples.curvature(
            net, exact=True
        )  # fmt: skip

    (value, gradient, jacobian, hessian), (value_2, gradient_2, jacobian_2, hessian_2) = map(measured, (net, permuted))
    np.testing.assert_allclose(value_2, value, rtol=1e-14)
    assert_close(gradient_2, gradient[moved])
    assert_close(jacobian_2, jacobian[:, moved])
    assert_close(hessian_2, hessian[moved][:, moved])


@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_keep_float32(weighted, key):
    net, samples = problem((3, 4, 2), "gelu", key, weighted=weighted)
    net, samples = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (net, samples))

    def derivatives(net, samples):
        curvatures = [samples.curvature(net, exact=exact) for exact in (True, False)]
        return samples.value(net), samples.gradient(net), samples.residuals(net), samples.jacobian(net), curvatures

    made = jax.tree.leaves(eqx.filter_eval_shape(derivatives, net, samples))
    assert {leaf.dtype for leaf in made} == {np.dtype(np.float32)}


def test_the_hessian_does_not_depend_on_the_blocks_of_its_products(key, monkeypatch):
    net, samples = problem((3, 4, 2), "g", key)
    hessian = lambda net: jax.jit(lambda net: samples.curvature(net, exact=True))(net)
    whole = hessian(net)
    monkeypatch.setattr(ecjax.objective.gram, "_BLOCK", 3)
    assert_close(hessian(net), whole)


# --- an objective of one's own -------------------------------------------------------------------------------------


class Distance(Objective):
    """How far the weights are from others: no samples, no residuals, only a value."""

    target: jaxtyping.Float[jaxtyping.Array, " parameters"]

    def value(self, net):
        return jnp.sum(jnp.cosh(vector(net) - self.target) - 1)


def test_a_value_is_enough_for_its_derivatives(key):
    net, _ = problem((3, 4, 2), "g", key)
    objective = Distance(drawn.normal(key, (net.n_parameters,)))

    @jax.jit
    def derivatives(net):
        curvatures = [objective.curvature(net, exact=exact) for exact in (True, False)]
        return vector(objective.gradient(net)), *curvatures, jax.jacfwd(gradient_field(objective, net))(vector(net))

    gradient, *curvatures = derivatives(net)
    away = np.asarray(vector(net) - objective.target)
    assert_close(gradient, np.sinh(away))
    for curvature in curvatures:
        assert_close(curvature, np.diag(np.cosh(away)))


# --- fields for solvers --------------------------------------------------------------------------------------------


def test_the_gradient_field_is_the_gradient_and_its_derivative_the_hessian(key):
    net, samples = problem((3, 4, 2), "g", key)
    field = gradient_field(samples, net)

    @jax.jit
    def made(net):
        theta = vector(net)
        return field(theta), vector(samples.gradient(net)), jax.jacfwd(field)(theta), samples.curvature(net, exact=True)

    slope, gradient, derivative, hessian = made(net)
    np.testing.assert_array_equal(slope, gradient)
    assert_close(derivative, hessian)


def test_the_residual_fields_squares_add_up_to_the_loss(key):
    net, samples = problem((3, 4, 2), "g", key)
    field = residual_field(samples, net)

    @jax.jit
    def made(net):
        theta = vector(net)
        return jnp.sum(field(theta) ** 2), samples.value(net), jax.jacfwd(field)(theta), samples.jacobian(net)

    squares, value, derivative, jacobian = made(net)
    np.testing.assert_allclose(squares, value, rtol=1e-14)
    assert_close(derivative, jacobian)


class Counted(Samples):
    """Samples that tell when a matrix is built."""

    def jacobian(self, net):
        jax.debug.callback(lambda _: built.append("jacobian"), net.layers[1].b)
        return super().jacobian(net)

    def curvature(self, net, *, exact):
        jax.debug.callback(lambda _: built.append("curvature"), net.layers[1].b)
        return super().curvature(net, exact=exact)


built = []


@pytest.mark.parametrize(("field", "matrix"), [(gradient_field, "curvature"), (residual_field, "jacobian")])
def test_the_matrix_is_built_once_for_all_tangents(field, matrix, key):
    """Counted where it happens: not once a column, however many columns are asked for."""
    net, samples = problem((3, 4, 2), "g", key)
    built.clear()
    jax.block_until_ready(jax.jit(jax.jacfwd(field(Counted(samples.x, samples.y), net)))(vector(net)))
    jax.effects_barrier()
    assert built == [matrix]


def test_a_vector_of_weights_is_its_record_in_order(key):
    net = drawn.network((3, 4, 2), "tanh", key=key)
    theta, unflatten = flatten(net)
    in_order = [np.asarray(part).reshape(-1) for layer in net.layers for part in (layer.w, layer.b)]
    np.testing.assert_array_equal(theta, np.concatenate(in_order))
    again = unflatten(theta)
    assert isinstance(again, Network)
    assert eqx.tree_equal(again, net)
