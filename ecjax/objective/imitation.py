"""How well a student imitates the teacher: the loss, its residuals, and their first and second derivatives.

    L(theta) = mean over samples and outputs of (respond(theta, x) - y)^2

theta is a network's weights as one vector, in the order of its record: w, b of the first layer, then of the next.
One hidden layer has closed forms. With phi = activation(z), phi' and phi'' its derivatives, and a bias input of 1,
every derivative of the residuals is a product of phi' x and phi, so that

    hessian = 2 / (samples * fan_out) * (J^T J + residual-weighted second derivatives)

needs one Gram matrix, of [phi' x, phi], whatever the number of outputs; the second part only couples weights of the
same neuron. Deeper networks go through automatic differentiation behind the same functions.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..network.networks import Layer, Network, respond

Inputs = Float[Array, "samples fan_in"]
Outputs = Float[Array, "samples fan_out"]
Theta = Float[Array, " parameters"]


def flatten(net: Network) -> tuple[Theta, Callable[[Theta], Network]]:
    """The weights of one network as a vector, and the way back."""
    return ravel_pytree(net)


def residuals(net: Network, x: Inputs, y: Outputs) -> Outputs:
    """What the student answers too much, sample by sample."""
    return respond(net, x) - y


def imitation_loss(net: Network, x: Inputs, y: Outputs) -> Float[Array, ""]:
    """Mean squared error over samples and outputs."""
    return jnp.mean(residuals(net, x, y) ** 2)


def gradient(net: Network, x: Inputs, y: Outputs) -> Network:
    """Gradient of the imitation loss, shaped like the network."""
    if _is_deep(net):
        return jax.grad(imitation_loss)(net, x, y)
    return _shallow_gradient(net, _forward(net, x, y), x)


def jacobian(net: Network, x: Inputs) -> Float[Array, "samples fan_out parameters"]:
    """Derivative of every answer by every parameter."""
    if _is_deep(net):
        theta, unflatten = flatten(net)
        one_sample = jax.jacrev(lambda theta, x: respond(unflatten(theta), x))
        return jax.vmap(one_sample, in_axes=(None, 0))(theta, x)
    phi, slope, _ = _features(net, x)
    a = net.layers[1].w
    (n_samples, width), fan_out = phi.shape, a.shape[0]
    by_z = a[None] * slope[:, None]  # samples, fan_out, width
    by_w = (by_z[..., None] * x[:, None, None]).reshape(n_samples, fan_out, -1)
    one_per_output = jnp.eye(fan_out, dtype=x.dtype)
    by_a = (one_per_output[None, :, :, None] * phi[:, None, None]).reshape(n_samples, fan_out, fan_out * width)
    by_c = jnp.broadcast_to(one_per_output, (n_samples, fan_out, fan_out))
    return jnp.concatenate([by_w, by_z, by_a, by_c], axis=-1)


def gauss_newton(net: Network, x: Inputs, y: Outputs) -> Float[Array, "parameters parameters"]:
    """The Hessian without the second derivatives of the residuals: 2 / (samples * fan_out) * J^T J."""
    if _is_deep(net):
        j = jacobian(net, x).reshape(y.size, -1)
        return 2 / y.size * j.T @ j
    return _shallow_hessian(net, _forward(net, x, y), x, exact=False)


def hessian(net: Network, x: Inputs, y: Outputs) -> Float[Array, "parameters parameters"]:
    """Second derivative of the imitation loss."""
    if _is_deep(net):
        theta, unflatten = flatten(net)
        return jax.hessian(lambda theta: imitation_loss(unflatten(theta), x, y))(theta)
    return _shallow_hessian(net, _forward(net, x, y), x, exact=True)


def flow_field(like: Network, x: Inputs, y: Outputs) -> Callable[[Theta], Theta]:
    """The gradient as a function of theta, with the closed-form Hessian as its derivative.

    The tangent is `hessian(theta) @ dtheta` with a matrix that does not depend on the tangent, so implicit solvers,
    which materialise the derivative column by column under `vmap`, build the Hessian once a step.

    Args:
        like: Any network of the students' shape.
        x: Queries.
        y: The teacher's answers.
    """
    _, unflatten = flatten(like)

    @jax.custom_jvp
    def field(theta):
        return flatten(gradient(unflatten(theta), x, y))[0]

    @field.defjvp
    def field_jvp(primals, tangents):
        (theta,), (dtheta,) = primals, tangents
        return field(theta), hessian(unflatten(theta), x, y) @ dtheta

    return field


def residual_field(like: Network, x: Inputs, y: Outputs) -> Callable[[Theta], Float[Array, " residuals"]]:
    """The residuals as a function of theta, scaled so that their squares add up to the loss.

    The derivative is the closed-form Jacobian, built once a step as in `flow_field`.
    """
    _, unflatten = flatten(like)
    scale = 1 / np.sqrt(y.size)

    @jax.custom_jvp
    def field(theta):
        return scale * residuals(unflatten(theta), x, y).reshape(-1)

    @field.defjvp
    def field_jvp(primals, tangents):
        (theta,), (dtheta,) = primals, tangents
        j = jacobian(unflatten(theta), x).reshape(y.size, -1)
        return field(theta), scale * (j @ dtheta)

    return field


# --- one hidden layer, closed forms --------------------------------------------------------------------------------


class _Forward(NamedTuple):
    """One pass through a shallow network: what all its derivatives are made of."""

    phi: Float[Array, "samples width"]  # activation(z)
    slope: Float[Array, "samples width"]  # activation'(z)
    z: Float[Array, "samples width"]
    residual: Float[Array, "samples fan_out"]


def _is_deep(net: Network) -> bool:
    return len(net.layers) != 2


def _features(net: Network, x):
    hidden = net.layers[0]
    z = jax.vmap(lambda x: hidden.w @ x + hidden.b)(x)
    return net.activation(z), net.activation.d1(z), z


def _forward(net: Network, x, y) -> _Forward:
    phi, slope, z = _features(net, x)
    output = net.layers[1]
    residual = jax.vmap(lambda phi, y: output.w @ phi + output.b - y)(phi, y)
    return _Forward(phi, slope, z, residual)


def _shallow_gradient(net: Network, at: _Forward, x) -> Network:
    by_z = (at.residual @ net.layers[1].w) * at.slope  # samples, width
    scale = 2 / at.residual.size
    hidden = Layer(scale * by_z.T @ x, scale * by_z.sum(0))
    output = Layer(scale * at.residual.T @ at.phi, scale * at.residual.sum(0))
    return Network((hidden, output), net.activation)


def _with_bias(x):
    return jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)


def _shallow_hessian(net: Network, at: _Forward, x, *, exact: bool):
    """Gram matrix of [phi' x, phi], spread over the outputs; `exact` adds the second derivatives of the residuals."""
    a = net.layers[1].w
    fan_out, width = a.shape
    x = _with_bias(x)
    n_samples, n_in = x.shape  # n_in counts the bias
    n_hidden = width * n_in

    inner = (at.slope[:, :, None] * x[:, None, :]).reshape(n_samples, n_hidden)
    outer = _with_bias(at.phi)
    basis = jnp.concatenate([inner, outer], axis=1)
    gram = _gram(basis)

    # Rows and columns: (neuron, input) for the hidden layer, (output, neuron) for the output layer, each bias last.
    within = gram[:n_hidden, :n_hidden].reshape(width, n_in, width, n_in) * (a.T @ a)[:, None, :, None]
    across = gram[:n_hidden, n_hidden:].reshape(width, n_in, 1, width + 1) * a.T[:, None, :, None]
    if exact:
        pull = at.residual @ a  # samples, width: dL/dphi up to the scale
        curvature = pull * net.activation.d2(at.z)
        own = jnp.einsum("nip,nq->ipq", curvature[:, :, None] * x[:, None, :], x)
        mixed = (inner.T @ at.residual).reshape(width, n_in, fan_out)
        neuron = jnp.arange(width)
        within = within.at[neuron, :, neuron, :].add(own)
        across = across.at[neuron, :, :, neuron].add(mixed)
    n_outer = fan_out * (width + 1)
    outputs = jnp.eye(fan_out, dtype=x.dtype)[:, None, :, None] * gram[None, n_hidden:, None, n_hidden:]
    across = across.reshape(n_hidden, n_outer)
    matrix = jnp.block(
        [[within.reshape(n_hidden, n_hidden), across], [across.T, outputs.reshape(n_outer, n_outer)]],
    )
    order = _parameter_order(width, n_in, fan_out)
    return 2 / at.residual.size * matrix[order][:, order]


_WHOLE = 256  # columns of which all products are taken at once


def _gram(columns: Float[Array, "samples columns"]) -> Float[Array, "columns columns"]:
    """Products of columns with each other, those of different halves once: a quarter less time for a thousand columns.

    XLA has no product that knows its result to be symmetric.
    """
    n = columns.shape[1]
    if n <= _WHOLE:
        return columns.T @ columns
    left, right = columns[:, : n // 2], columns[:, n // 2 :]
    across = left.T @ right
    return jnp.block([[_gram(left), across], [across.T, _gram(right)]])


def _parameter_order(width: int, n_in: int, fan_out: int) -> np.ndarray:
    """Where theta's entries (w, b of each layer) stand among the rows of `_shallow_hessian`."""
    inner = np.arange(width * n_in).reshape(width, n_in)
    outer = width * n_in + np.arange(fan_out * (width + 1)).reshape(fan_out, width + 1)
    blocks = (inner[:, :-1], inner[:, -1], outer[:, :-1], outer[:, -1])
    return np.concatenate([block.reshape(-1) for block in blocks])
