"""Clusters of neurons: the neurons that many students found independently are the teacher's own.

The neurons of one layer, pooled over the students, are linked by average linkage; the cut says which nodes of the
dendrogram are candidates; three filters say which of them are kept: enough distinct students (gamma), members that
point the same way (beta, and never a dead neuron), and no neuron twice. Everything that decided is in the record, so
that it can be cut again without linking again.

Source:
    Martinelli et al., ICML 2024 (arXiv:2304.12794), section on clustering. We differ from it in counting students
    instead of vectors, in the cut (see `ecjax.cluster.cut`), in sign-free distances instead of a flip by the first
    component, and in the default metric.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from ..activations import Symmetry
from . import cut as cutting
from .cut import Curve, Cut, Policy
from .distances import pair_distances
from .embedding import Metric, Points, embed, row_norms
from .filters import align, aligned_points, median_angle, spread
from .scale import Linkage, Linked, link
from .tree import Tree, tree


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Settings of the cluster phase.

    Attributes:
        gamma: Share of the students that a cluster must reach, within (0, 1].
        beta: Largest median angle between the members of a cluster, in radians, within (0, pi/2].
        metric: "preactivation" (rms difference over the queries), "euclidean" (the paper's) or "cosine".
        policy: How the dendrogram is cut. "agreement" (default): branch by branch, by how long a cluster stays alone;
            "stability": excess of mass, as in HDBSCAN; "paper": the height with the most clusters of gamma * N vectors;
            "plateau": the widest range of heights with one number of clusters; "count": the widest with `n_clusters`;
            "height": cut at `height`.
        n_clusters: Number of large clusters wanted by the policy "count".
        height: Height forced by the policy "height", in units of the metric.
        resolution: Neurons closer than this share of their norm agree, however much closer others are.
        linkage: How the dendrogram is made. "matrix": from all distances; "components": exactly, component by component
            of a neighbour graph, and only up to some height if the memory does not allow more; "balls": the same with
            tight clusters as weighted points, heights within `height_error`; "auto" (default): "matrix" up to some
            thousand vectors, then "components".
        memory: GiB that a matrix of distances may take.
    """

    gamma: float = 0.8
    beta: float = np.pi / 24
    metric: Metric = "preactivation"
    policy: Policy = "agreement"
    n_clusters: int | None = None
    height: float | None = None
    resolution: float = 1e-3
    linkage: Linkage = "auto"
    memory: float = 4.0

    def __post_init__(self):
        if not 0 < self.gamma <= 1:
            raise ValueError(f"`gamma` is a share of the students, within (0, 1]; got {self.gamma:g}.")
        if not 0 < self.beta <= np.pi / 2:
            raise ValueError(f"`beta` is in radians, within (0, pi/2]; got {self.beta:g}. See np.deg2rad.")
        if not self.resolution > 0:
            raise ValueError(f"`resolution` is a positive share of a neuron's norm; got {self.resolution:g}.")
        if not self.memory > 0:
            raise ValueError(f"`memory` is a positive number of GiB; got {self.memory:g}.")
        for name, options in {"metric": Metric, "policy": Policy, "linkage": Linkage}.items():
            options = get_args(options)
            if getattr(self, name) not in options:
                raise ValueError(f"`{name}` is one of {options}; got {getattr(self, name)!r}.")
        for name, policy in (("n_clusters", "count"), ("height", "height")):
            value = getattr(self, name)
            if (value is not None) != (self.policy == policy):
                raise ValueError(
                    f'`{name}` goes with policy="{policy}" and only with it; got {value!r} for {self.policy!r}.'
                )
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` is positive; got {value!r}.")


class Aligned(eqx.Module):
    """The members of one cluster, brought to one sign, phase and scale.

    `vectors = sign * neurons / scale`, with `turns` antiperiods added to the bias. With outgoing weights a, the same
    contribution in the new form has a * scale * (-1)**turns, times the parity of the activation where sign is -1; what
    a change of sign adds beyond that (a constant, a linear map) is in the symmetry.
    """

    members: Int[np.ndarray, " members"]
    student: Int[np.ndarray, " members"]
    vectors: Float[np.ndarray, "members fan_in_1"]
    sign: Float[np.ndarray, " members"]
    scale: Float[np.ndarray, " members"]
    turns: Int[np.ndarray, " members"]


class Clustering(eqx.Module):
    """One layer's neurons, their dendrogram, the cut, and every candidate cluster with its verdict.

    Attributes:
        neurons: Incoming weight vectors of all students, bias last.
        student: The student of every neuron.
        n_students: How many students there are.
        moment: Second moment of the layer's inputs that the preactivation metric measures with, or None.
        symmetry: Of the activation.
        config: What was asked.
        linkage: The dendrogram in SciPy's layout (a forest with fewer rows if it is known only in part).
        known_up_to: Height up to which the dendrogram is known; infinite if it is complete.
        height_error: Largest difference of a height in it and the mean distance that it stands for; 0 if exact.
        how: How the dendrogram was made, in words.
        height: Height of the cut; nan for policies that choose each branch's own.
        curve: Number of large clusters against the height of a flat cut.
        needed: Distinct students that a cluster needs: gamma * n_students, rounded up.
        label: Candidate cluster of every neuron, -1 for none.
        node: Node of the dendrogram of every candidate.
        n_present: Distinct students in it.
        n_vectors: Neurons in it (a student may hold several copies).
        median_angle: Between two members, in radians; dead members count as pi.
        spread: Rms distance of the aligned members from their mean, in units of the metric.
        merged_at: Height of the merge that made the cluster.
        stability: Log of the height at which it merges with others over `merged_at`, both plus `resolution` norms.
        reference: The member that signs and phases are aligned to, one of the two that merged first.
        kept: Whether it is taken for a neuron of the teacher.
        verdict: "kept", or why not: "dead", "too few students", "angles too wide", "same neuron as cluster k".
    """

    neurons: Float[np.ndarray, "neurons fan_in_1"]
    student: Int[np.ndarray, " neurons"]
    n_students: int = eqx.field(static=True)
    moment: Float[np.ndarray, "fan_in_1 fan_in_1"] | None
    symmetry: Symmetry = eqx.field(static=True)
    config: ClusterConfig = eqx.field(static=True)
    linkage: Float[np.ndarray, "merges 4"]
    known_up_to: float = eqx.field(static=True)
    height_error: float = eqx.field(static=True)
    how: str = eqx.field(static=True)
    height: float = eqx.field(static=True)
    curve: Curve
    needed: int = eqx.field(static=True)
    label: Int[np.ndarray, " neurons"]
    node: Int[np.ndarray, " clusters"]
    n_present: Int[np.ndarray, " clusters"]
    n_vectors: Int[np.ndarray, " clusters"]
    median_angle: Float[np.ndarray, " clusters"]
    spread: Float[np.ndarray, " clusters"]
    merged_at: Float[np.ndarray, " clusters"]
    stability: Float[np.ndarray, " clusters"]
    reference: Int[np.ndarray, " clusters"]
    kept: Bool[np.ndarray, " clusters"]
    verdict: tuple[str, ...] = eqx.field(static=True)

    @property
    def width(self) -> int:
        """How many neurons were found: the kept clusters."""
        return int(self.kept.sum())

    @property
    def kept_clusters(self) -> Int[np.ndarray, " kept"]:
        """Indices of the kept clusters, for `members` and `aligned`."""
        return np.flatnonzero(self.kept)

    def members(self, cluster: int | np.integer) -> Int[np.ndarray, " members"]:
        """Indices of the neurons in a candidate cluster, in ascending order."""
        return np.flatnonzero(self.label == cluster)

    def points(self, members: np.ndarray | slice = slice(None)) -> Points:
        """Neurons in the coordinates in which the metric is Euclidean."""
        return embed(self.neurons, metric=self.config.metric, symmetry=self.symmetry, moment=self.moment).take(members)

    def aligned(self, cluster: int | np.integer) -> Aligned:
        """The members of a candidate cluster brought to one sign, phase and scale, most typical member first.

        Typical is who lies closest to the median of each coordinate, so strays come last.
        """
        members = self.members(cluster)
        points = self.points()
        alignment = align(points, members, int(self.reference[cluster]), homogeneous=self.symmetry.homogeneous)
        x = aligned_points(points, members, alignment)
        first = np.argsort(row_norms(x - np.median(x, axis=0)), kind="stable")
        vectors = self.neurons[members] * (alignment.sign / alignment.scale)[:, None]
        vectors[:, -1] += alignment.phase
        return Aligned(
            members[first],
            self.student[members[first]],
            vectors[first],
            alignment.sign[first],
            alignment.scale[first],
            alignment.turns[first],
        )


def cluster_neurons(
    neurons: Float[np.ndarray, "neurons fan_in_1"],
    student: Int[np.ndarray, " neurons"],
    *,
    n_students: int,
    symmetry: Symmetry,
    moment: Float[np.ndarray, "fan_in_1 fan_in_1"] | None = None,
    config: ClusterConfig | None = None,
) -> Clustering:
    """Find the neurons that many students agree on.

    Args:
        neurons: Incoming weight vectors of one layer, pooled over students, with the bias as last coordinate.
        student: The student that each neuron belongs to.
        n_students: How many students there are, those without neurons here included.
        symmetry: What a change of sign, scale or phase leaves unchanged: `activation.symmetry`.
        moment: `second_moment` of the layer's inputs; needed for the metric "preactivation".
        config: Thresholds, metric, policy.

    Raises:
        ValueError: If shapes disagree, numbers are not finite, the activation is a polynomial, gamma * n_students is
            below 2, or `moment` does not go with the metric.
    """
    config = config or ClusterConfig()
    neurons, student = _checked(neurons, student, n_students, symmetry)
    cutting.n_needed(config.gamma, n_students)
    points = embed(neurons, metric=config.metric, symmetry=symmetry, moment=moment)
    linked = link(points, method=config.linkage, memory=config.memory, resolution=config.resolution)
    return _judge(points, neurons, student, n_students, moment, symmetry, config, linked)


def recut(
    clustering: Clustering,
    *,
    gamma: float | None = None,
    beta: float | None = None,
    policy: Policy | None = None,
    n_clusters: int | None = None,
    height: float | None = None,
    resolution: float | None = None,
) -> Clustering:
    """The same dendrogram with another cut or other thresholds; nothing is linked again.

    Args:
        clustering: To cut again. What is not given stays as it was, but `n_clusters` and `height` go with their policy:
            giving one of them is enough to choose it.
        gamma: See `ClusterConfig`, as for all that follow.
    """
    policy = policy or ("count" if n_clusters is not None else "height" if height is not None else None)
    asked = {"gamma": gamma, "beta": beta, "policy": policy, "resolution": resolution}
    asked = {name: value for name, value in asked.items() if value is not None}
    if policy is not None:
        asked |= {"n_clusters": n_clusters, "height": height}
    return _recut(clustering, dataclasses.replace(clustering.config, **asked), clustering.points(), {})


def _recut(was: Clustering, config: ClusterConfig, points: Points, traits: dict) -> Clustering:
    linked = Linked(was.linkage, was.known_up_to, was.height_error, was.how)
    return _judge(points, was.neurons, was.student, was.n_students, was.moment, was.symmetry, config, linked, traits)


class Suggestion(eqx.Module):
    """How the number of kept clusters depends on gamma and beta.

    Attributes:
        gammas: Shares of students tried.
        betas: Angles tried, in radians.
        widths: Kept clusters for each pair.
        gamma: In the middle of the largest region of the grid with one positive width...
        beta: ... and this one.
        width: The width there; 0 if nothing is kept anywhere.
        share: Share of the grid that gives this width: how little it depends on the thresholds.
    """

    gammas: Float[np.ndarray, " gammas"]
    betas: Float[np.ndarray, " betas"]
    widths: Int[np.ndarray, "gammas betas"]
    gamma: float = eqx.field(static=True)
    beta: float = eqx.field(static=True)
    width: int = eqx.field(static=True)
    share: float = eqx.field(static=True)


def suggest_gamma_beta(
    clustering: Clustering,
    *,
    gammas: Sequence[float] = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    betas: Sequence[float] = tuple(np.pi / np.array([96, 48, 24, 12, 6, 3])),
) -> Suggestion:
    """Try a grid of gamma and beta on one dendrogram; nothing is linked again, and no angle is measured twice.

    Args:
        clustering: Whose dendrogram is cut.
        gammas: Shares of the students; those that mean fewer than two students are left out.
        betas: In radians.

    Raises:
        ValueError: If no gamma means two students.
    """
    gammas = [gamma for gamma in gammas if gamma * clustering.n_students >= 2]
    if not gammas:
        raise ValueError(f"`gammas`: none of them means two of the {clustering.n_students} students.")
    points, traits = clustering.points(), {}
    cell = lambda gamma, beta: dataclasses.replace(clustering.config, gamma=float(gamma), beta=float(beta))
    widths = np.array([[_recut(clustering, cell(g, b), points, traits).width for b in betas] for g in gammas])
    # How many steps a cell is away from the next cell with another width; the edge of the grid is no change.
    i, j = np.indices(widths.shape).reshape(2, -1)
    steps = np.maximum(abs(i[:, None] - i), abs(j[:, None] - j))
    other = widths.ravel()[:, None] != widths.ravel()
    depth = np.min(np.where(other, steps, max(widths.shape)), axis=1)
    counts = np.bincount(widths.ravel())
    counts[0] = 0
    width = int(np.argmax(counts)) if counts.any() else 0
    best = int(np.argmax(np.where(widths.ravel() == width, depth, -1)))
    return Suggestion(
        np.array(gammas),
        np.array(betas),
        widths,
        float(gammas[i[best]]),
        float(betas[j[best]]),
        width,
        float(np.mean(widths == width)),
    )


def _checked(neurons, student, n_students: int, symmetry: Symmetry) -> tuple[np.ndarray, np.ndarray]:
    neurons, student = np.asarray(neurons, float), np.asarray(student)
    if symmetry.polynomial:
        raise ValueError(
            "`symmetry` is that of a polynomial, whose neurons can be combined in infinitely many ways: no clustering "
            "can find them."
        )
    if neurons.ndim != 2 or len(neurons) < 2 or neurons.shape[1] < 2:
        raise ValueError(f"`neurons` is a matrix of at least 2 rows (w, b), bias last; got shape {neurons.shape}.")
    if student.shape != neurons.shape[:1]:
        raise ValueError(f"`student` names the student of each of {len(neurons)} neurons; got shape {student.shape}.")
    if student.min() < 0 or student.max() >= n_students:
        raise ValueError(
            f"`student` is within 0 ... n_students - 1 = {n_students - 1}; got {student.min()} ... {student.max()}."
        )
    bad = ~np.isfinite(row_norms(neurons))
    if bad.any():
        raise ValueError(
            f"`neurons` has NaN or infinite entries in {bad.sum()} rows, of students "
            f"{np.unique(student[bad]).tolist()}; leave failed students out."
        )
    return neurons, student


# --- the verdict ----------------------------------------------------------------------------------------------------


def _judge(
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
    return Clustering(
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


def _traits(points: Points, members: np.ndarray, reference: int, symmetry: Symmetry) -> tuple[float, float, bool]:
    """Median angle and spread of a cluster, and whether most of it is dead."""
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
    """Norms of the points, kept away from 0 so that they have logarithms."""
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
    apart = pair_distances(points, reference[kept[i]], reference[kept[j]])
    for a, b in zip(
        *(side[apart <= cutting.SEPARATION * np.minimum(core[i], core[j])] for side in (i, j)), strict=True
    ):
        if verdict[kept[a]] == verdict[kept[b]] == "kept":
            verdict[kept[b]] = f"same neuron as cluster {kept[a]}"
