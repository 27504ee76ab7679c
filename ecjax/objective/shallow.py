"""Closed form for one hidden layer: the curvature of the mean squared error.

With z the pre-activations, phi = activation(z), phi' and phi'' its derivatives, the derivative of an answer by a
parameter is one of the basis functions phi' x, phi', phi, 1 times a factor that no sample changes (an outgoing weight
for the hidden layer; 1 or 0 for the output layer), so that

    curvature = 2 sum over samples of share (J^T J + error-weighted second derivatives)

needs one Gram matrix of the basis, whatever the number of outputs. The second part only couples weights of the same
neuron: w and b by phi'' x x, and with the outgoing weights by phi' x.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..network import Network, hidden_states, pre_activations
from .gram import gram


def fits(net: Network) -> bool:
    """Whether the network has one hidden layer."""
    return len(net.layers) == 2


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
    (fan_out, width), fan_in = a.shape, x.shape[1]
    slope = activation.d1(state.z)
    one_share = share.ndim == 0  # all samples count alike: the factor can wait for the end

    by_w = (slope.T[:, None] * x.T[None]).reshape(width * fan_in, -1)
    basis = jnp.concatenate([by_w, slope.T, state.h.T, jnp.ones_like(x[:, :1].T)])
    products = gram(basis if one_share else jnp.sqrt(share).T * basis)
    if fan_out > 1:  # the last of the basis serve every output
        of_parameter = _basis_of_parameters(fan_in, width, fan_out)
        products = products[of_parameter][:, of_parameter]
    one_per_output = jnp.eye(fan_out, dtype=x.dtype)
    outgoing = jnp.repeat(one_per_output, width, axis=1)
    factors = jnp.concatenate([jnp.repeat(a, fan_in, axis=1), a, outgoing, one_per_output], axis=1)
    matrix = products * (factors.T @ factors)

    if exact:
        error = pre_activations(net.output, state.h) - y
        error = error if one_share else share * error
        with_bias = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)
        one, other, place = _pairs(fan_in + 1)  # every product of two inputs once
        own = ((with_bias.T[one] * with_bias.T[other]) @ ((error @ a) * activation.d2(state.z))).T[:, place]
        mixed = jnp.einsum("no,ni,np->oip", error, slope, with_bias)
        values = jnp.concatenate([own.reshape(-1), mixed.reshape(-1), mixed.reshape(-1)])
        matrix = matrix.at[_within_neurons(fan_in, width, fan_out)].add(values, unique_indices=True)
    return 2 * (share if one_share else 1) * matrix


# --- where things stand in theta: w [width, fan_in], b [width], a [fan_out, width], c [fan_out] ----------------------


def _basis_of_parameters(fan_in: int, width: int, fan_out: int) -> Int[np.ndarray, " parameters"]:
    """The basis function of which each parameter has a multiple as its derivative."""
    n_hidden = width * (fan_in + 1)
    phi = n_hidden + np.arange(width)
    return np.concatenate([np.arange(n_hidden), np.tile(phi, fan_out), np.full(fan_out, n_hidden + width)])


def _pairs(n: int) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Int[np.ndarray, "n n"]]:
    """The pairs of n things, a thing with itself included, one and the other, and which pair stands where in [n, n]."""
    one, other = np.triu_indices(n)
    place = np.zeros((n, n), int)
    place[one, other] = place[other, one] = np.arange(len(one))
    return one, other, place


def _within_neurons(
    fan_in: int, width: int, fan_out: int
) -> tuple[Int[np.ndarray, " entries"], Int[np.ndarray, " entries"]]:
    """Rows and columns of the curvature that couple weights of one neuron.

    Returns:
        Those of [width, inputs, inputs], then those of [fan_out, width, inputs], then these transposed; the bias is the
        last input.
    """
    w = np.arange(width * fan_in).reshape(width, fan_in)
    b = w.size + np.arange(width)[:, None]
    incoming = np.concatenate([w, b], axis=1)
    outgoing = incoming.size + np.arange(fan_out * width).reshape(fan_out, width, 1)
    own = np.broadcast_arrays(incoming[:, :, None], incoming[:, None])
    mixed = np.broadcast_arrays(incoming[None], outgoing)
    rows, columns = (
        np.concatenate([each.reshape(-1) for each in part]) for part in zip(own, mixed, mixed[::-1], strict=True)
    )
    return rows, columns
