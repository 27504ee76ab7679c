"""Closed forms for networks of any depth: derivatives of the answers by pre-activations, and by every weight.

The derivative of answer k by the weight of neuron i to input j is d_ki h_j, with d the derivative by the neuron's
pre-activation and h what the layer sees, a 1 for the bias. One pass backwards gives all d, and products of the two all
of the Jacobian.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..network import Network, hidden_states
from ..network.forward import Hidden


def sensitivities(net: Network, states: tuple[Hidden, ...]) -> list[Float[Array, "fan_out samples width"]]:
    """Derivative of every answer by the pre-activations of every hidden layer, first to last.

    Args:
        net: One network.
        states: Its hidden states on the queries (`hidden_states`).
    """
    by_z = jnp.eye(len(net.output.b), dtype=net.output.b.dtype)[:, None]  # of the answers themselves
    layers = []
    for layer, above, state in zip(reversed(net.hidden), reversed(net.layers), reversed(states), strict=False):
        by_z = (by_z @ above.w) * layer.activation.d1(state.z)[None]
        layers.append(by_z)
    return layers[::-1]


def jacobian_rows(net: Network, x: Float[Array, "samples fan_in"]) -> Float[Array, "parameters fan_out samples"]:
    """Derivative of every answer by every weight; a row for each weight, in the order of theta."""
    states = hidden_states(net, x)
    seen = [x, *(state.h for state in states)]
    one_per_output = jnp.eye(len(net.output.b), dtype=x.dtype)
    answers_by_themselves = jnp.broadcast_to(
        one_per_output[:, None], (len(one_per_output), len(x), len(one_per_output))
    )
    rows = []
    for by_z, inputs in zip([*sensitivities(net, states), answers_by_themselves], seen, strict=True):
        by_neuron = jnp.moveaxis(by_z, -1, 0)  # width, fan_out, samples
        by_weight = by_neuron[:, None] * inputs.T[None, :, None]  # width, fan_in, fan_out, samples
        rows += [by_weight.reshape(-1, *by_weight.shape[2:]), by_neuron]
    return jnp.concatenate(rows)
