"""Neurons that are not needed, taken away one by one while the loss lets them go.

Two uses. What clustering found may have a neuron too many: one that contributes nothing, or repeats another. And where
clustering found too few, the best student is a candidate itself: it holds the teacher's neurons among copies, zero
groups and constants, all of which can go. Refinement after every removal judges; the smallest network that is still
exact is the teacher.
"""

import numpy as np

from ..expand.refine import RefineConfig
from ..objective.imitation import Inputs, Outputs
from .finetune import Candidate, settle, wanted
from .output import linear_inputs, removal_costs, responses

NEEDED = 1e-2  # cost beyond which refinement has never made good for the loss of a neuron of an exact network
_HOPELESS = 1e-2  # share of the targets' variance that an intermediate network may leave unexplained


def eliminate(
    start: Candidate,
    x: Inputs,
    y: Outputs,
    *,
    config: RefineConfig,
    exact_below: float,
    pad_to: int = 0,
    n_tries: int = 2,
    keep_linear: bool = True,
) -> Candidate:
    """Remove neurons of the first hidden layer from a network as long as refinement makes good for them.

    Args:
        start: A refined network, exact or not.
        x: Queries.
        y: Targets.
        config: When a refinement stops.
        exact_below: Loss at which a network is exact.
        pad_to: See `finetune`.
        n_tries: How many of the cheapest neurons are tried before the network counts as minimal.
        keep_linear: See `settle`.

    Returns:
        The smallest exact network on the way; if none was exact, `start`.

    Source:
        What an exact network may hold beyond the teacher's neurons, and why all of it can be left out at no cost:
        Şimşek et al., ICML 2021 (arXiv:2105.12221).
    """
    activation = start.network.activation
    inputs, current, best = linear_inputs(x, activation), start, start
    tools = {"config": config, "exact_below": exact_below, "pad_to": pad_to, "n_signs": 2, "keep_linear": keep_linear}
    while len(current.vectors) > 1:
        vectors, targets = current.vectors, np.asarray(wanted(current.network, x, y), float)
        costs = removal_costs(responses(vectors, x, activation), inputs, targets) / np.mean(np.var(targets, axis=0))
        for neuron in np.argsort(costs, kind="stable")[:n_tries]:
            if current.is_exact and costs[neuron] > NEEDED:
                return best
            rest = np.delete(vectors, neuron, axis=0)
            smaller = settle(rest, x, y, current.network, **tools)
            if smaller.is_exact or (not current.is_exact and smaller.loss <= _HOPELESS):
                current = smaller
                break
        else:
            return best
        if current.is_exact:
            best = current
    return best
