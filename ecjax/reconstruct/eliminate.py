"""Neurons that are not needed, taken away one by one while the loss lets them go.

Two uses. What clustering found may have a neuron too many: one that contributes nothing, or repeats another. And where
clustering found too few, the best student is a candidate itself: it holds the teacher's neurons among copies, zero
groups and constants, all of which can go. Refinement after every removal judges; the smallest network that is still
exact is the teacher.
"""

import numpy as np
from jaxtyping import Float

from ..activations import Activation
from ..expand.refine import RefineConfig
from ..imitation import Inputs, Outputs
from .finetune import Candidate, settle
from .output import Vectors, fit_output, leaves_linear_map, responses

_NEEDED = 1e-6  # cost at which a neuron of an exact network can't be a copy, a zero group, a constant or a linear map
_HOPELESS = 1e-2  # share of the targets' variance that an intermediate network may leave unexplained


def removal_costs(vectors: Vectors, x: Inputs, y: Outputs, activation: Activation) -> Float[np.ndarray, " width"]:
    """How much the mean squared error of the least-squares fit rises when a neuron is left out.

    With G the Gram matrix of the fit's columns, leaving out column i costs sum(a_i^2) / (G^-1)_ii.
    """
    phi, n_samples = responses(vectors, x, activation), len(x)
    extra = np.asarray(x, float) if leaves_linear_map(activation) else np.zeros((n_samples, 0))
    fit = fit_output(vectors, x, y, activation, with_linear=leaves_linear_map(activation))
    basis = np.concatenate([phi, extra, np.ones((n_samples, 1))], axis=1)
    scale = np.linalg.norm(basis, axis=0)
    scale[scale == 0] = 1.0
    # R of the scaled columns: (G^-1)_ii is the squared norm of row i of R^-1. Rounding-level pivots mark columns that
    # others replace; a floor keeps their cost at (nearly) nothing instead of nan.
    r = np.linalg.qr(basis / scale, mode="r")
    _, singular, vt = np.linalg.svd(r)
    inverse = vt.T / np.maximum(singular, 1e-14 * singular.max())
    gain = np.sum(inverse**2, axis=1)[: len(vectors)]
    return np.sum((fit.a * scale[: len(vectors)]) ** 2, axis=0) / gain / y.size


def eliminate(
    start: Candidate,
    x: Inputs,
    y: Outputs,
    *,
    config: RefineConfig,
    pad_to: int = 0,
    n_tries: int = 2,
) -> Candidate:
    """Remove neurons from a network as long as refinement makes good for them.

    Args:
        start: A refined network, exact or not.
        x: Queries.
        y: Targets.
        config: When a refinement stops.
        pad_to: See `finetune`.
        n_tries: How many of the cheapest neurons are tried before the network counts as minimal.

    Returns:
        The smallest exact network on the way; if none was exact, `start`.

    Source:
        What an exact network may hold beyond the teacher's neurons, and why all of it can be left out at no cost:
        Şimşek et al., ICML 2021 (arXiv:2105.12221).
    """
    activation = start.network.activation
    current, best = start, start
    while len(current.vectors) > 1:
        vectors = current.vectors
        costs = removal_costs(vectors, x, y, activation)
        for neuron in np.argsort(costs, kind="stable")[:n_tries]:
            if current.is_exact and costs[neuron] > _NEEDED:
                return best
            rest = np.delete(vectors, neuron, axis=0)
            smaller = settle(rest, x, y, activation, config=config, pad_to=pad_to, n_signs=2)
            if smaller.is_exact or (not current.is_exact and smaller.loss <= _HOPELESS):
                current = smaller
                break
        else:
            return best
        if current.is_exact:
            best = current
    return best
