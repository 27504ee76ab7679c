"""How the answers of a network change with its weights, and in how many directions they can't."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base.precision import compiled
from ..network import Network
from ..network.symmetries import symmetries
from ..objective import Inputs, Samples
from ..objective.variation import variation

AT_ONCE = 2e7  # entries of a Jacobian that are held at once


@compiled
def answers_by_weights(network: Network, x: Inputs) -> Float[Array, "samples fan_out parameters"]:
    """Derivative of every answer by every parameter."""
    nothing = Samples(x, jnp.zeros((len(x), network.shape[-1]), x.dtype))
    return (nothing.jacobian(network) * math.sqrt(nothing.n_numbers)).reshape(len(x), network.shape[-1], -1)


def leverage(
    network: Network, x: Inputs, weights: Float[np.ndarray, " samples"]
) -> Float[np.ndarray, "samples fan_out"]:
    """How much of its own error each answer takes along, between 0 and 1, in a fit by weighted least squares.

    Args:
        network: At the minimum.
        x: Queries.
        weights: How much each counted.

    Source: Cook and Weisberg, Residuals and Influence in Regression (1982), section 2.2.
    """
    p, size = network.n_parameters, max(1, int(AT_ONCE / (network.n_parameters * network.shape[-1])))
    pieces = [slice(start, start + size) for start in range(0, len(x), size)]
    rows = lambda some: (
        np.sqrt(weights[some, None, None]) * np.asarray(answers_by_weights(network, x[some]), float)
    ).reshape(-1, p)
    values, vectors = np.linalg.eigh(sum(rows(some).T @ rows(some) for some in pieces))
    seen = values > p * np.finfo(float).eps * values[-1]
    root = vectors[:, seen] / np.sqrt(values[seen])
    return np.concatenate([np.sum((rows(some) @ root) ** 2, axis=1) for some in pieces]).reshape(len(x), -1)


def n_invisible(network: Network, x: Inputs) -> int:
    """Directions of the weights in which no answer can change: rescaled neurons, inputs that never vary."""
    n_unseen = x.shape[1] - variation(x).rank
    return n_unseen * network.widths[0] + n_rescaled(network)


def n_rescaled(network: Network) -> int:
    """Neurons whose scale no answer shows, as relu's."""
    return sum(int(symmetries(layer.activation, len(layer.b)).homogeneous.sum()) for layer in network.hidden)


def by_pre_activations(
    jacobian: Float[np.ndarray, "rows parameters"], network: Network, x: Inputs
) -> Float[np.ndarray, "rows seen"]:
    """Derivatives by the pre-activations of the first layer, and all other parameters, in the place of its weights.

    With inputs that are white in so many directions u as they vary in, a pre-activation is w'u + b', and the root mean
    square over the queries of a change of it is the length of the change of (w', b'). What no query shows is left out.

    Args:
        jacobian: Derivatives by the parameters, in the order of `ecjax.objective.flatten`.
        network: Of these parameters.
        x: Queries.
    """
    width, fan_in = network.layers[0].w.shape
    seen = variation(x)
    varying = np.where(seen.constant, 0.0, (np.asarray(x, float) - seen.mean) / seen.spread)
    _, singular, directions = np.linalg.svd(np.linalg.qr(varying, mode="r"))
    spread = singular[: seen.rank] / np.sqrt(len(x))
    white = directions[: seen.rank].T / spread / seen.spread[:, None]  # w = white w', b = b' - mean w
    by_w, by_b, rest = np.split(jacobian, [width * fan_in, width * (fan_in + 1)], axis=1)
    by_shape = by_w.reshape(len(jacobian), width, fan_in) @ white - by_b[:, :, None] * (seen.mean @ white)
    return np.concatenate([by_shape.reshape(len(jacobian), -1), by_b, rest], axis=1)
