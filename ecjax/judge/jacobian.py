"""How the answers of a network change with its weights, and in how many directions they can't."""

import math

import jax.numpy as jnp
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


def n_invisible(network: Network, x: Inputs) -> int:
    """Directions of the weights in which no answer can change: rescaled neurons, inputs that never vary."""
    n_unseen = x.shape[1] - variation(x).rank
    rescaled = sum(int(symmetries(layer.activation, len(layer.b)).homogeneous.sum()) for layer in network.hidden)
    return n_unseen * network.widths[0] + rescaled
