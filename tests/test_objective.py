"""Closed-form derivatives of the imitation loss against automatic ones, and what the solvers' fields promise."""

import ecjax.objective.imitation
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from ecjax.network.activations import ACTIVATIONS
from ecjax.network.networks import Network, permute_neurons, random_network, respond
from ecjax.objective.imitation import (
    flatten,
    flow_field,
    gauss_newton,
    gradient,
    hessian,
    imitation_loss,
    jacobian,
    residual_field,
    residuals,
)

# One output takes the same way through the code as several, so a few activations speak for all.
CASES = [*((name, 2) for name in ACTIVATIONS), *((name, 1) for name in ("g", "tanh", "softplus", "relu"))]


def problem(shape, activation, key, n_samples=12):
    """A student with biases, queries, and targets that it does not meet."""
    net_key, theta_key, x_key, y_key = jr.split(key, 4)
    theta, unflatten = flatten(random_network(shape, activation, key=net_key))
    net = unflatten(theta + 0.3 * jr.normal(theta_key, theta.shape))
    return net, jr.normal(x_key, (n_samples, shape[0])), jr.normal(y_key, (n_samples, shape[-1]))


def assert_close(got, wanted, name=""):
    """To 1e-12 of the largest entry."""
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * float(jnp.max(jnp.abs(wanted))), err_msg=name)


# --- closed forms are what automatic differentiation finds ---------------------------------------------------------


@pytest.mark.parametrize(("activation", "n_outputs"), CASES)
def test_closed_forms_are_the_automatic_derivatives(activation, n_outputs, key):
    net, x, y = problem((3, 4, n_outputs), activation, key)
    theta, unflatten = flatten(net)

    @jax.jit
    def compared(theta):
        net = unflatten(theta)
        loss = lambda theta: imitation_loss(unflatten(theta), x, y)
        automatic = jax.jacrev(lambda theta: respond(unflatten(theta), x))(theta)
        flat = automatic.reshape(y.size, -1)
        return {
            "gradient": (flatten(gradient(net, x, y))[0], jax.grad(loss)(theta)),
            "jacobian": (jacobian(net, x), automatic),
            "gauss_newton": (gauss_newton(net, x, y), 2 / y.size * flat.T @ flat),
            "hessian": (hessian(net, x, y), jax.hessian(loss)(theta)),
        }

    for name, (got, wanted) in compared(theta).items():
        assert_close(got, wanted, name)


@pytest.mark.parametrize("shape", [(3, 4, 3, 2), (3, 2)], ids=["two hidden layers", "no hidden layer"])
def test_any_depth_answers_behind_the_same_functions(shape, key):
    """Derivatives of deep networks against central differences, whose error here is about 1e-10."""
    net, x, y = problem(shape, "tanh", key)
    theta, unflatten = flatten(net)

    @jax.jit
    def compared(theta):
        answers = lambda theta: respond(unflatten(theta), x)
        loss = lambda theta: imitation_loss(unflatten(theta), x, y)
        slopes = lambda theta: flatten(gradient(unflatten(theta), x, y))[0]
        steps = 1e-5 * jnp.eye(theta.size)
        slope = lambda fn: jax.vmap(lambda h: (fn(theta + h) - fn(theta - h)) / 2e-5, out_axes=-1)(steps)
        net, j = unflatten(theta), slope(answers)
        flat = j.reshape(y.size, -1)
        return {
            "gradient": (slopes(theta), slope(loss)),
            "jacobian": (jacobian(net, x), j),
            "hessian": (hessian(net, x, y), slope(slopes)),
            "gauss_newton": (gauss_newton(net, x, y), 2 / y.size * flat.T @ flat),
        }

    for name, (got, wanted) in compared(theta).items():
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-8, err_msg=name)


def test_loss_is_the_mean_square_of_the_residuals(key):
    net, x, y = problem((3, 4, 2), "g", key)
    by_hand = [np.asarray(respond(net, x[i])) - np.asarray(y[i]) for i in range(len(x))]
    np.testing.assert_allclose(residuals(net, x, y), by_hand, rtol=1e-13)
    np.testing.assert_allclose(imitation_loss(net, x, y), np.square(by_hand).mean(), rtol=1e-13)


def test_a_student_that_is_the_teacher_has_no_gradient_and_a_positive_hessian(key):
    net, x, _ = problem((3, 4, 2), "tanh", key, n_samples=40)
    y = respond(net, x)
    exact, linearised = eqx.filter_jit(hessian)(net, x, y), eqx.filter_jit(gauss_newton)(net, x, y)
    assert float(jnp.linalg.norm(flatten(gradient(net, x, y))[0])) < 1e-15
    assert_close(exact, linearised)
    assert np.linalg.eigvalsh(exact).min() > 0


def test_neurons_may_trade_places(key):
    """The loss does not know the order of neurons, and its derivatives move with them."""
    net, x, y = problem((3, 4, 2), "softplus", key)
    order = jnp.array([2, 0, 3, 1])
    permuted = permute_neurons(net, order, layer=0)
    labels = flatten(net)[1](jnp.arange(float(net.n_parameters)))  # which parameter stands where
    moved = flatten(permute_neurons(labels, order, layer=0))[0].astype(int)
    np.testing.assert_allclose(imitation_loss(permuted, x, y), imitation_loss(net, x, y), rtol=1e-14)
    assert_close(flatten(gradient(permuted, x, y))[0], flatten(gradient(net, x, y))[0][moved])
    assert_close(jacobian(permuted, x), jacobian(net, x)[..., moved])
    assert_close(hessian(permuted, x, y), hessian(net, x, y)[moved][:, moved])


def test_derivatives_keep_float32(key):
    net, x, y = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), problem((3, 4, 2), "gelu", key))
    derivatives = lambda *at: (gradient(*at), jacobian(*at[:2]), gauss_newton(*at), hessian(*at))
    assert {leaf.dtype for leaf in jax.tree.leaves(eqx.filter_eval_shape(derivatives, net, x, y))} == {
        np.dtype(np.float32)
    }


# --- fields for solvers --------------------------------------------------------------------------------------------


def test_the_hessian_does_not_depend_on_how_its_columns_are_halved(key, monkeypatch):
    net, x, y = problem((3, 4, 2), "g", key)
    whole = hessian(net, x, y)
    monkeypatch.setattr(ecjax.objective.imitation, "_WHOLE", 3)
    assert_close(hessian(net, x, y), whole)


def test_flow_field_is_the_gradient_and_its_derivative_the_hessian(key):
    net, x, y = problem((3, 4, 2), "g", key)
    theta, _ = flatten(net)
    field = flow_field(net, x, y)
    np.testing.assert_array_equal(field(theta), flatten(gradient(net, x, y))[0])
    assert_close(jax.jacfwd(field)(theta), hessian(net, x, y))


def test_residual_field_squares_add_up_to_the_loss(key):
    net, x, y = problem((3, 4, 2), "g", key)
    theta, _ = flatten(net)
    field = residual_field(net, x, y)
    np.testing.assert_allclose(jnp.sum(field(theta) ** 2), imitation_loss(net, x, y), rtol=1e-14)
    assert_close(jax.jacfwd(field)(theta), jacobian(net, x).reshape(y.size, -1) / np.sqrt(y.size))


@pytest.mark.parametrize(("field", "matrix"), [(flow_field, "hessian"), (residual_field, "jacobian")])
def test_the_matrix_is_built_once_for_all_tangents(field, matrix, key, monkeypatch):
    """Counted where it happens: not once a column, however many columns are asked for."""
    net, x, y = problem((3, 4, 2), "g", key)
    theta, _ = flatten(net)
    built = []
    original = getattr(ecjax.objective.imitation, matrix)

    def counted(net: Network, *data):
        jax.debug.callback(lambda _: built.append(matrix), net.layers[1].b)
        return original(net, *data)

    monkeypatch.setattr(ecjax.objective.imitation, matrix, counted)
    jax.block_until_ready(eqx.filter_jit(jax.jacfwd(field(net, x, y)))(theta))
    jax.effects_barrier()
    assert built == [matrix]
