"""One numbering of neurons in all figures and tables: neuron k is row k of the recovered layer, counted from 1.

Clusters were found before neurons were chosen among them, refined and rescaled, so which cluster became which neuron
is seen by their directions.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from ..cluster import Clustering
from ..cluster.embedding import embed, row_norms
from ..network import hidden_states
from ..objective import Inputs
from .recovery import Recovery

_SAME = 0.1  # 1 - |cos| up to which a cluster and a neuron are one: they differ by the spread of the cluster


def cluster_numbers(recovery: Recovery, x: Inputs, layer: int) -> tuple[Int[np.ndarray, " clusters"], ...]:
    """The number of the neuron that each candidate cluster of a hidden layer became; 0 of those that became none.

    Args:
        recovery: What was recovered.
        x: Its queries.
        layer: Which hidden layer, counted from 0.

    Returns:
        One array for each activation of the layer, as `clusterings[layer].groups` has them.
    """
    neurons = _as_clustered(recovery, x, layer)
    kinds = recovery.network.layers[layer].activation.groups(len(neurons))
    groups = recovery.clusterings[layer].groups
    if len(kinds) == 1 and len(groups) > 1:  # a mixture of which one activation is left
        mine = [
            np.arange(len(neurons)) if each.symmetry == kinds[0][0].symmetry else np.zeros(0, int) for each in groups
        ]
    else:
        mine = [np.arange(len(neurons))[rows] for _, rows in kinds]
        mine += [np.zeros(0, int)] * (len(groups) - len(mine))
    return tuple(_matched(group, neurons[rows], rows + 1) for group, rows in zip(groups, mine, strict=True))


def _as_clustered(recovery: Recovery, x: Inputs, layer: int) -> Float[np.ndarray, "width fan_in_1"]:
    """The final neurons in the coordinates that the layer's clusters are in."""
    final = recovery.network.layers[layer]
    w, b = np.asarray(final.w, float), np.asarray(final.b, float)
    if recovery.probes:  # directions in the row space, whose biases are found only later
        basis = recovery.probes[layer].basis
        if basis.shape[1] != w.shape[1]:  # a neuron below was taken away later: no cluster is in these coordinates
            return np.column_stack([w, np.zeros(len(b))])
        return np.column_stack([w @ basis.T, np.zeros(len(b))])
    if layer == 0:
        scale = recovery.scaling
        if scale.x_map.shape[1] != w.shape[1]:  # another network in the place of the recovered one: no cluster is its
            return np.column_stack([w, b])
        return np.column_stack([w @ np.linalg.pinv(scale.x_map), b + w @ scale.x_mean])
    moment = recovery.clusterings[layer].groups[0].moment
    if moment is not None and len(moment) == w.shape[1] + 1:  # neurons below may have another norm now
        now = np.asarray(hidden_states(recovery.network, x)[layer - 1].h, float)
        then = np.sqrt(np.diag(moment)[:-1])
        w = w * np.sqrt(np.mean(now**2, axis=0)) / np.where(then > 0, then, 1)
    return np.column_stack([w, b])


def _matched(
    clustering: Clustering, neurons: Float[np.ndarray, "width fan_in_1"], numbers: Int[np.ndarray, " width"]
) -> Int[np.ndarray, " clusters"]:
    """Kept clusters and neurons in pairs, each used once, whose directions are nearest to each other."""
    number, kept = np.zeros(len(clustering.kept), int), clustering.kept_clusters
    if not len(kept) or neurons.shape[1] != clustering.fan_in_1 or not len(neurons):
        return number
    typical = clustering.neurons[clustering.reference[kept]]
    is_direction = not neurons[:, -1].any()
    if is_direction:
        typical = np.column_stack([typical[:, :-1], np.zeros(len(kept))])
    both = np.concatenate([typical, neurons])
    points = embed(both, metric=clustering.config.metric, symmetry=clustering.symmetry, moment=clustering.moment).x
    points = points / np.maximum(row_norms(points), np.finfo(float).tiny)[:, None]
    apart = 1 - np.abs(points[: len(kept)] @ points[len(kept) :].T)
    rows, columns = linear_sum_assignment(apart)
    close = apart[rows, columns] <= _SAME
    number[kept[rows[close]]] = numbers[columns[close]]
    return number
