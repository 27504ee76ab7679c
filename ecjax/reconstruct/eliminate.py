"""Neurons that are not needed, taken away one by one while the loss lets them go.

What clustering found may have a neuron too many: one that contributes nothing, or repeats another. Where clustering
found too few, the best student is a candidate itself: it holds the teacher's neurons among copies, zero groups and
constants, all of which can go. And a layer of a deep network is reconstructed below wide layers or above layers that
are not yet quite right; either may hide that a neuron is not needed, until all layers have been refined together.
Refinement after every removal judges; the smallest network that is still exact is the teacher.

Source: what an exact network may hold beyond the teacher's neurons, and why all of it can be left out at no cost:
    Şimşek et al., ICML 2021 (arXiv:2105.12221).
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Array, Float

from ..base.precision import in_full_precision
from ..expand import Stopping, fewer, is_small
from ..judge import Judge
from ..network import Network, hidden_states
from ..network.moves import with_layers
from ..objective import Inputs, Samples
from .assemble import Candidate, Tools, assemble
from .finetune import ANSWERS, are_dear, finetune
from .output import Neurons, fit_output, linear_inputs, neurons_of, removal_costs, responses, wanted


def eliminate(start: Candidate, samples: Samples, tools: Tools, *, n_tries: int = 2) -> Candidate:
    """Remove neurons of the first hidden layer from a network as long as refinement makes good for them.

    Args:
        start: A refined network, exact or not.
        samples: Queries and targets.
        tools: How candidates are refined and judged.
        n_tries: How many of the cheapest neurons are tried before the network counts as minimal.

    Returns:
        The smallest exact network on the way; if none was exact, `start`.
    """
    current, best, judge, tools = start, start, tools.judge, replace(tools, n_signs=2)
    while current.neurons.width > 1:
        costs = _costs(current.network, samples)
        for neuron in np.argsort(costs, kind="stable")[:n_tries]:
            if current.fits and not judge.is_free(float(costs[neuron])):
                return best
            origin = (*current.origin[:neuron], *current.origin[neuron + 1 :])
            rest = current.neurons.without(int(neuron))
            smaller = assemble(rest, samples, current.network, tools, origin=origin)
            fewer = current.network.n_parameters - smaller.network.n_parameters
            needless = judge.lets_go(smaller.loss, current.loss, fewer) if current.fits else smaller.fits
            if needless or (not current.fits and judge.is_hopeful(smaller.loss)):
                current = smaller
                break
        else:
            return best
        if current.fits:
            best = current
    return best


def eliminate_in_all_layers(
    net: Network, loss: float, samples: Samples, *, stop: Stopping, judge: Judge
) -> tuple[Network, float]:
    """An exact network without the neurons that it is exact without, in whatever hidden layer.

    Args:
        net: An exact network.
        loss: Its loss.
        samples: Queries and targets.
        stop: When a refinement stops.
        judge: What counts as exact.

    Returns:
        The smallest exact network on the way, and its loss.
    """
    for layer in range(len(net.widths)):
        while net.widths[layer] > 1:
            costs = removals(net, layer, samples)
            cheapest = int(np.argmin(costs))
            if not judge.is_free(float(costs[cheapest])):
                break
            some = samples if is_small(net) else fewer(samples, net, ANSWERS)
            is_clear = are_dear(net, some) and layer == len(net.widths) - 1  # where costs are those of the answers
            if is_clear and not judge.may_be_made_good(float(costs[cheapest]), judge.target(loss)):
                break
            smaller = removal(net, layer, cheapest, samples)
            refined, refined_loss = finetune(smaller, some, stop=stop, judge=judge)
            if some is not samples and judge.fits(refined_loss):
                refined, refined_loss = finetune(refined, samples, stop=stop, judge=judge)
            if not judge.lets_go(refined_loss, loss, net.n_parameters - refined.n_parameters):
                break
            net, loss = refined, refined_loss
    return net, loss


def removals(net: Network, layer: int, samples: Samples) -> Float[np.ndarray, " width"]:
    """What leaving out each neuron of a hidden layer costs, in units of what the next layer wants of it."""
    return _costs(Network(net.layers[layer:]), replace(samples, x=inputs_of(net, layer, samples.x)))


def removal(net: Network, layer: int, neuron: int, samples: Samples) -> Network:
    """The network without a neuron, for which the others of its layer make good as well as least squares can."""
    return with_neurons(net, layer, neurons_of(net, layer).without(neuron), samples)


def with_neurons(net: Network, layer: int, neurons: Neurons, samples: Samples) -> Network:
    """The network with these neurons in a hidden layer, and least squares for what the next one wants of them."""
    x = inputs_of(net, layer, samples.x)
    fitted = fit_output(neurons, x, wanted(Network(net.layers[layer:]), x, samples.y)).layer(x.dtype)
    outer = replace(net.layers[layer + 1], w=fitted.w, b=fitted.b)
    return with_layers(net, layer, neurons.layer(x.dtype), outer)


@in_full_precision
def inputs_of(net: Network, layer: int, x: Inputs) -> Float[Array, "samples width"]:
    """What a hidden layer sees of the queries."""
    return hidden_states(net, x)[layer - 1].h if layer else x


def _costs(net: Network, samples: Samples) -> Float[np.ndarray, " width"]:
    """What leaving out each neuron of the first hidden layer costs, in units of what the next one wants of it."""
    neurons, targets = neurons_of(net), np.asarray(wanted(net, samples.x, samples.y), float)
    costs = removal_costs(responses(neurons, samples.x), linear_inputs(samples.x, neurons), targets)
    return costs / np.mean(np.var(targets, axis=0))
