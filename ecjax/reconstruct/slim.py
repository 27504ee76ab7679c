"""The last look at a deep network: neurons that it is exact without, in whatever hidden layer, are taken away.

A layer is reconstructed below wide students' layers or above layers that are not yet quite right; either may hide that
a neuron is not needed. When all layers have been refined together nothing is left to hide it.
"""

import jax.numpy as jnp
import numpy as np

from ..expand import RefineConfig
from ..network.networks import Layer, Network, take_neurons
from ..objective.imitation import Inputs, Outputs
from .eliminate import NEEDED
from .finetune import finetune, wanted
from .output import fit_output, linear_inputs, removal_costs, responses, vectors_of


def slimmed(
    net: Network, loss: float, x: Inputs, y: Outputs, *, config: RefineConfig, exact_below: float
) -> tuple[Network, float]:
    """The network without the neurons that it is exact without, all weights refined after each removal.

    Args:
        net: An exact network.
        loss: Its loss.
        x: Queries.
        y: Targets.
        config: When a refinement stops.
        exact_below: Loss at which a network is exact.

    Returns:
        The smallest exact network on the way, and its loss.
    """
    for layer in range(len(net.widths)):
        while net.widths[layer] > 1:
            smaller = _without_cheapest(net, layer, x, y)
            if smaller is None:
                break
            refined, refined_loss = finetune(smaller, x, y, config=config, exact_below=exact_below)
            if refined_loss > exact_below:
                break
            net, loss = refined, refined_loss
    return net, loss


def _without_cheapest(net: Network, layer: int, x: Inputs, y: Outputs) -> Network | None:
    """The network without that neuron of a layer which the next one can best do without; None if it needs them all."""
    for below in net.layers[:layer]:
        x = net.activation(below(x))
    upper = Network(net.layers[layer:], net.activation)
    vectors, target = vectors_of(upper), wanted(upper, x, y)
    inputs = linear_inputs(x, net.activation)
    costs = removal_costs(responses(vectors, x, net.activation), inputs, np.asarray(target, float)) / float(
        jnp.mean(jnp.var(target, axis=0))
    )
    cheapest = int(np.argmin(costs))
    if costs[cheapest] > NEEDED:
        return None
    rest = [i for i in range(len(vectors)) if i != cheapest]
    fit = fit_output(vectors[rest], x, target, net.activation)
    smaller = take_neurons(net, rest, layer=layer)
    layers = list(smaller.layers)
    layers[layer + 1] = Layer(jnp.asarray(fit.a, x.dtype), jnp.asarray(fit.c, x.dtype))
    return Network(tuple(layers), net.activation)
