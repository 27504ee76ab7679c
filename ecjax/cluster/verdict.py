"""The verdict: a dendrogram is cut, and every candidate cluster goes through the filters.

A cluster is kept if enough distinct students share it (gamma), its members point the same way (beta) and are not dead,
and no other kept cluster is the same neuron.
"""

import numpy as np
from jaxtyping import Float

from ..network import Symmetry
from . import cut as cutting
from .cut import Curve, Cut
from .distances import condensed_distances
from .embedding import Points, row_norms
from .link import Linked
from .members import align, aligned_points, median_angle, spread
from .record import ClusterConfig, Clustering
from .tree import Tree, tree

REPEAT = "same neuron as cluster "  # and its index


def judge(
    points: Points,
    neurons: np.ndarray,
    student: np.ndarray,
    n_students: int,
    moment: np.ndarray | None,
    symmetry: Symmetry,
    config: ClusterConfig,
    linked: Linked,
    traits: dict[int, tuple[float, float, bool]] | None = None,
) -> Clustering:
    """Cut the dendrogram and put every candidate through the filters.

    `traits` keeps what was measured of nodes from one cut of this dendrogram to the next.
    """
    needed = cutting.n_needed(config.gamma, n_students)
    typical = _typical_norm(points)
    # Unrelated vectors of many coordinates are orthogonal.
    far = 1.0 if points.cosine else np.sqrt(2) * float(np.exp(np.mean(np.log(typical))))
    dendrogram = tree(linked.linkage, student, known_up_to=linked.known_up_to, far=far)
    norm = _node_means(dendrogram, typical)
    floor = config.resolution**2 / 2 * np.ones_like(norm) if points.cosine else config.resolution * norm
    counts = dendrogram.n_vectors if config.policy == "paper" else dendrogram.n_students
    curve = cutting.curve(linked.linkage, counts, needed)
    chosen = _choose(dendrogram, curve, student, needed, floor, norm, far, config, points.cosine)

    clusters = [np.sort(dendrogram.members(node)) for node in chosen.nodes]
    label = np.full(len(student), -1)
    for k, members in enumerate(clusters):
        label[members] = k
    # One of the two vectors that merged first lies where the cluster is densest.
    reference = np.array([members[np.argmin(dendrogram.parent[members])] for members in clusters], int)
    traits = {} if traits is None else traits
    for node, members, first in zip(chosen.nodes.tolist(), clusters, reference.tolist(), strict=True):
        if node not in traits:
            traits[node] = _traits(points, members, first, symmetry)
    angles, spreads, dead = (
        np.array([traits[node][which] for node in chosen.nodes.tolist()], dtype)
        for which, dtype in enumerate((float, float, bool))
    )
    present = dendrogram.n_students[chosen.nodes]

    verdict = np.full(len(clusters), "kept", dtype=object)
    verdict[~(angles <= config.beta)] = "angles too wide"
    verdict[present < needed] = "too few students"
    verdict[dead] = "dead"
    if config.policy != "paper":
        _mark_repeats(verdict, points, dendrogram, chosen.nodes, reference, floor)
    found = Clustering(
        neurons=neurons,
        student=student,
        n_students=n_students,
        moment=moment,
        symmetry=symmetry,
        config=config,
        linkage=linked.linkage,
        known_up_to=linked.known_up_to,
        height_error=linked.height_error,
        how=linked.how,
        height=chosen.height,
        curve=curve,
        needed=needed,
        label=label,
        node=chosen.nodes,
        n_present=present,
        n_vectors=dendrogram.n_vectors[chosen.nodes],
        median_angle=angles,
        spread=spreads,
        merged_at=dendrogram.height[chosen.nodes],
        stability=cutting.lifetime(dendrogram, floor)[chosen.nodes],
        reference=reference,
        kept=(verdict == "kept").astype(bool),
        verdict=tuple(verdict.tolist()),
    )
    # It would make the points again when asked for the members of a cluster.
    object.__setattr__(found, "all_points", points)
    return found


def judge_again(was: Clustering, config: ClusterConfig, traits: dict) -> Clustering:
    """The verdict on the same dendrogram with another configuration."""
    linked = Linked(was.linkage, was.known_up_to, was.height_error, was.how)
    return judge(
        was.points(), was.neurons, was.student, was.n_students, was.moment, was.symmetry, config, linked, traits
    )


def _traits(points: Points, members: np.ndarray, reference: int, symmetry: Symmetry) -> tuple[float, float, bool]:
    """Median angle and spread of a cluster, and whether most of its members are dead."""
    x = aligned_points(points, members, align(points, members, reference, homogeneous=symmetry.homogeneous))
    dead = points.dead[members]
    return median_angle(x, dead, sign_free=points.sign_free), spread(x), bool(np.mean(dead) > 0.5)


def _choose(tree: Tree, curve: Curve, student, needed, floor, norm, far, config: ClusterConfig, cosine: bool) -> Cut:
    """The candidates that the policy picks."""
    if config.policy == "agreement":
        chord = 1 - np.cos(config.beta) if cosine else 2 * np.sin(config.beta / 2) * norm
        return cutting.agreement(tree, student, needed, floor=floor, narrow=np.broadcast_to(chord, norm.shape))
    if config.policy == "stability":
        return cutting.stability(tree, needed, floor=floor)
    if config.policy == "paper":
        return cutting.flat_cut(tree, tree.n_vectors, needed, cutting.paper_height(curve))
    height = config.height
    if height is None:
        height = cutting.plateau_height(curve, far, float(np.median(floor)), config.n_clusters)
    if height is None and config.policy == "count":
        raise ValueError(
            f"`n_clusters`: no height gives {config.n_clusters} clusters of {needed} students; the numbers that occur "
            f"are {np.unique(curve.n_clusters).tolist()}. Lower gamma, or ask for one of these."
        )
    return cutting.flat_cut(tree, tree.n_students, needed, np.nan if height is None else height)


def _typical_norm(points: Points) -> Float[np.ndarray, " neurons"]:
    """Norms of the points, kept away from 0 so that they have logarithms; a neuron below is dead or nearly."""
    norm = row_norms(points.x)
    return np.maximum(norm, 1e-6 * (np.median(norm) or norm.max() or 1.0))


def _node_means(tree: Tree, norm: np.ndarray) -> Float[np.ndarray, " nodes"]:
    """Geometric mean of the members' norms, node by node: a neuron that ran away does not dominate it."""
    total = np.concatenate([[0.0], np.cumsum(np.log(norm[tree.order]))])
    return np.exp((total[tree.start + tree.n_vectors] - total[tree.start]) / tree.n_vectors)


def _mark_repeats(verdict, points: Points, tree: Tree, nodes, reference, floor) -> None:
    """Of kept clusters that lie within each other's spread, leave the one with the most students."""
    kept = np.flatnonzero(verdict == "kept")
    kept = kept[np.argsort(-tree.n_students[nodes[kept]], kind="stable")]
    core = np.array([tree.core_height(int(node)) for node in nodes[kept]]) + floor[nodes[kept]]
    i, j = np.triu_indices(len(kept), 1)
    apart = condensed_distances(points.take(reference[kept]))
    for a, b in zip(
        *(side[apart <= cutting.SEPARATION * np.minimum(core[i], core[j])] for side in (i, j)), strict=True
    ):
        if verdict[kept[a]] == verdict[kept[b]] == "kept":
            verdict[kept[b]] = f"{REPEAT}{kept[a]}"
