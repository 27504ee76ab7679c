"""Every cut of a dendrogram that the sliders of the page can ask for, each as the library makes it."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from ..cluster import Clustering
from ..cluster.tree import Tree, tree
from ..cluster.verdict import judge_again

# Neurons times cuts that are made for a page: some seconds.
_AFFORDABLE = 200_000
_MOST, _FEWEST = 24, 4  # places of a slider


class Cuts(NamedTuple):
    """Outcomes of cuts over a grid.

    Attributes:
        needed: Students that a cluster needs, by the place of the first slider.
        betas: Largest median angle in radians, by the place of the second.
        outcome: Index of the outcome of each pair of places.
        outcomes: Nodes that are kept, and candidates that are not, of each.
    """

    needed: list[int]
    betas: list[float]
    outcome: list[list[int]]
    outcomes: list[dict[str, list[int]]]


def cuts_of(clustering: Clustering) -> Cuts:
    """The grid around the cut of a run, which is one of its places."""
    places = int(np.clip(np.sqrt(_AFFORDABLE / max(1, len(clustering.neurons))), _FEWEST, _MOST))
    n, own = clustering.n_students, clustering.config
    needed = np.unique(np.append(np.linspace(2, n, min(places, n - 1)).round().astype(int), clustering.needed))
    betas = np.unique(np.append(np.deg2rad(np.geomspace(0.1, 90, places)), own.beta))
    traits, seen, outcomes = {}, {}, []
    outcome = []
    for k in needed:
        row = []
        for beta in betas:
            gamma = own.gamma if k == clustering.needed else k / n
            again = judge_again(clustering, dataclasses.replace(own, gamma=float(gamma), beta=float(beta)), traits)
            kept, other = again.node[again.kept].tolist(), again.node[~again.kept].tolist()
            mark = (tuple(kept), tuple(other))
            if mark not in seen:
                seen[mark] = len(outcomes)
                outcomes.append({"kept": kept, "other": other})
            row.append(seen[mark])
        outcome.append(row)
    return Cuts(needed.tolist(), betas.tolist(), outcome, outcomes)


def nodes_of(clustering: Clustering) -> Tree:
    """The dendrogram with every node's interval of leaves."""
    far = 2 * clustering.linkage[:, 2].max(initial=0.5)
    return tree(clustering.linkage, clustering.student, known_up_to=clustering.known_up_to, far=far)


def as_data(nodes: Tree, cuts: Cuts, clustering: Clustering, **more: Any) -> dict[str, Any]:
    """What the script of the page needs, of the nodes that some cut names the first and last leaf and the height."""
    nodes_named = sorted({node for each in cuts.outcomes for mine in each.values() for node in mine})
    last = nodes.start + nodes.n_vectors - 1
    named = [(node, nodes.start[node], last[node], nodes.height[node]) for node in nodes_named]
    return {
        **cuts._asdict(),
        "own": [cuts.needed.index(clustering.needed), cuts.betas.index(float(clustering.config.beta))],
        "students": clustering.n_students,
        "intervals": {str(node): [int(first), int(last)] for node, first, last, _ in named},
        "heights": {str(node): float(height) for node, _, _, height in named},
        **more,
    }
