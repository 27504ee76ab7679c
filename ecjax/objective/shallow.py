"""Closed forms for one hidden layer: Jacobian of the answers, and curvature of the mean squared error.

With phi = activation(z), phi' and phi'' its derivatives, and a bias input of 1, every derivative of the answers is a
product of phi' x and phi, so that

    curvature = 2 share (J^T J + error-weighted second derivatives)

needs one Gram matrix, of [phi' x, phi], whatever the number of outputs; the second part only couples weights of the
same neuron.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..network import Network, hidden_states, pre_activations


def fits(net: Network) -> bool:
    """Whether the network has one hidden layer."""
    return len(net.layers) == 2


def jacobian(net: Network, x: Float[Array, "samples fan_in"]) -> Float[Array, "samples fan_out parameters"]:
    """Derivative of every answer by every parameter."""
    (state,) = hidden_states(net, x)
    a, slope = net.output.w, net.hidden[0].activation.d1(state.z)
    (n_samples, width), fan_out = state.h.shape, a.shape[0]
    by_z = a[None] * slope[:, None]  # samples, fan_out, width
    by_w = (by_z[..., None] * x[:, None, None]).reshape(n_samples, fan_out, -1)
    one_per_output = jnp.eye(fan_out, dtype=x.dtype)
    by_a = (one_per_output[None, :, :, None] * state.h[:, None, None]).reshape(n_samples, fan_out, fan_out * width)
    by_c = jnp.broadcast_to(one_per_output, (n_samples, fan_out, fan_out))
    return jnp.concatenate([by_w, by_z, by_a, by_c], axis=-1)


def curvature(
    net: Network,
    x: Float[Array, "samples fan_in"],
    y: Float[Array, "samples fan_out"],
    share: Float[Array, ""] | Float[Array, "samples 1"],
    *,
    exact: bool,
) -> Float[Array, "parameters parameters"]:
    """Second derivative of sum share (answer - y)^2; without `exact` only its part 2 share J^T J."""
    (state,) = hidden_states(net, x)
    activation, a = net.hidden[0].activation, net.output.w
    fan_out, width = a.shape
    x = _with_bias(x)
    n_samples, n_in = x.shape  # n_in counts the bias
    n_hidden = width * n_in

    inner = (activation.d1(state.z)[:, :, None] * x[:, None, :]).reshape(n_samples, n_hidden)
    basis = jnp.concatenate([inner, _with_bias(state.h)], axis=1)
    one_share = share.ndim == 0  # all samples count alike: the factor can wait for the end
    gram = _gram(basis if one_share else jnp.sqrt(share) * basis)

    # Rows and columns: (neuron, input) for the hidden layer, (output, neuron) for the output layer, each bias last.
    within = gram[:n_hidden, :n_hidden].reshape(width, n_in, width, n_in) * (a.T @ a)[:, None, :, None]
    across = gram[:n_hidden, n_hidden:].reshape(width, n_in, 1, width + 1) * a.T[:, None, :, None]
    if exact:
        error = pre_activations(net.output, state.h) - y
        error = error if one_share else share * error
        bent = (error @ a) * activation.d2(state.z)
        own = jnp.einsum("nip,nq->ipq", bent[:, :, None] * x[:, None, :], x)
        mixed = (inner.T @ error).reshape(width, n_in, fan_out)
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
    return 2 * (share if one_share else 1) * matrix[order][:, order]


def _with_bias(x):
    return jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)


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
    """Where theta's entries (w, b of each layer) stand among the rows of the matrix."""
    inner = np.arange(width * n_in).reshape(width, n_in)
    outer = width * n_in + np.arange(fan_out * (width + 1)).reshape(fan_out, width + 1)
    blocks = (inner[:, :-1], inner[:, -1], outer[:, :-1], outer[:, -1])
    return np.concatenate([block.reshape(-1) for block in blocks])
