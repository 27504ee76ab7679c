"""Neurons that do the work of one, and the one in their place.

Of a neuron that is nearly linear over the queries, students often make two: far out on both sides of zero, with nearly
opposite incoming vectors, whose sum is as linear. No small step leads from there to the one neuron, and both stay where
all others are right (784-16-10 of g on MNIST: 15 of 16 neurons within 1e-4, and two at a loss of 2e-6 for the last).
Where there is room, more than two share the work: five of 20, with g on Fashion-MNIST.

What gives them away are their outgoing vectors. Those of two neurons of the teacher have no reason to be parallel;
those of neurons that share the work of one are (0.9999998 there, where no other pair exceeded 0.66). The one neuron
sees the linear map of the inputs that is nearest to what all of them do, at the scale and shift that explain most.
"""

import itertools

import numpy as np
from scipy.sparse.csgraph import connected_components

from ..network import Network

Places = tuple[int, ...]

_PARALLEL = 0.99  # cosine of outgoing vectors


def parallel_groups(net: Network, layer: int) -> list[Places]:
    """Neurons of a hidden layer whose outgoing vectors are parallel: whole groups, then pairs, most parallel first.

    Towards a single output all vectors are parallel, and say nothing.
    """
    a = np.asarray(net.layers[layer + 1].w, float)
    if len(a) < 2:
        return []
    a = a / (np.linalg.norm(a, axis=0) + np.finfo(float).tiny)
    cosine = np.abs(a.T @ a)
    n, label = connected_components(cosine > _PARALLEL, directed=False)
    groups = [tuple(map(int, np.flatnonzero(label == one))) for one in range(n)]
    pairs = [pair for pair in itertools.combinations(range(a.shape[1]), 2) if cosine[pair] > _PARALLEL]
    return [
        *(group for group in groups if len(group) > 2),
        *sorted(pairs, key=lambda pair: -cosine[pair]),
    ]
