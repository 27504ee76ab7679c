"""What the cluster phase is asked for and what it answers: settings, candidate clusters with their verdicts."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import get_args

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from ..base.checks import check_settings
from ..network import Symmetry
from .cut import Curve, Policy, is_agreement, n_needed
from .embedding import Points, embed, row_norms
from .link import Linkage
from .members import align, aligned_points
from .metric import METRICS, Metric, as_metric


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Settings of the cluster phase.

    Attributes:
        gamma: Share of the students that a cluster must reach, within (0, 1].
        beta: Largest median angle between the members of a cluster, in radians, within (0, pi/2].
        metric: "preactivation" (rms difference over the queries), "euclidean" (the paper's), "cosine", or a `Metric` of
            your own.
        policy: How the dendrogram is cut. "agreement" (default): branch by branch, by how long a cluster stays alone;
            "stability": excess of mass, as in HDBSCAN; "paper": the height with the most clusters of gamma * N vectors;
            "plateau": the widest range of heights with one number of clusters; "count": the widest with `n_clusters`;
            "height": cut at `height`.
        n_clusters: Number of large clusters wanted by the policy "count", in a layer of one activation.
        height: Height forced by the policy "height", in units of the metric.
        resolution: Neurons closer than this share of their norm agree, however much closer others are. Smaller, and
            copies that form streaks are two neurons more often; larger, and near neurons are one (docs/cluster.md).
        linkage: How the dendrogram is made. "matrix": from all distances; "components": exactly, component by component
            of a neighbour graph, and only up to some height if the memory does not allow more; "balls": the same with
            tight clusters as weighted points, heights within `height_error`; "auto" (default): "matrix" up to two
            thousand vectors, then "components", collapsing into balls only what does not fit in memory.
        memory: GiB that a matrix of distances may take.
    """

    gamma: float = 0.8
    beta: float = np.pi / 24
    metric: str | Metric = "preactivation"
    policy: Policy = "agreement"
    n_clusters: int | None = None
    height: float | None = None
    resolution: float = 1e-3
    linkage: Linkage = "auto"
    memory: float = 4.0

    def __post_init__(self):
        check_settings(self, above_0=("resolution", "memory", "n_clusters", "height"))
        if not 0 < self.gamma <= 1:
            raise ValueError(f"`gamma` is a share of the students, within (0, 1]; got {self.gamma:g}.")
        if not 0 < self.beta <= np.pi / 2:
            raise ValueError(f"`beta` is in radians, within (0, pi/2]; got {self.beta:g}. See np.deg2rad.")
        metric = as_metric(self.metric)  # refuses unknown names
        is_named = METRICS.get(metric.name) == metric
        object.__setattr__(self, "metric", metric.name if is_named else metric)
        for name, options in {"policy": Policy, "linkage": Linkage}.items():
            options = get_args(options)
            if getattr(self, name) not in options:
                raise ValueError(f"`{name}` is one of {options}; got {getattr(self, name)!r}.")
        for name, policy in (("n_clusters", "count"), ("height", "height")):
            value = getattr(self, name)
            if (value is not None) != (self.policy == policy):
                raise ValueError(
                    f'`{name}` goes with policy="{policy}" and only with it; got {value!r} for {self.policy!r}.'
                )

    def of(self, n_students: int) -> "ClusterConfig":
        """The same for so many students, fewer perhaps than gamma is meant for: two of them are a cluster at least."""
        return self if is_agreement(self.gamma, n_students) else replace(self, gamma=min(1.0, 2 / n_students))

    def n_needed(self, n_students: int) -> int:
        """How many of so many students a cluster needs."""
        return n_needed(self.gamma, n_students)


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
    """The neurons of one activation, their dendrogram, the cut, and every candidate cluster with its verdict.

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

    @property
    def fan_in_1(self) -> int:
        """Length of an incoming weight vector, its bias included."""
        return self.neurons.shape[1]

    @property
    def groups(self) -> "tuple[Clustering, ...]":
        """The neurons by their activation, as `MixedClustering` has several: these alone."""
        return (self,)

    def group_of(self, cluster: int | np.integer) -> int:
        """Index of the group that a candidate cluster belongs to."""
        return 0

    def members(self, cluster: int | np.integer) -> Int[np.ndarray, " members"]:
        """Indices of the neurons in a candidate cluster, in ascending order."""
        return np.flatnonzero(self.label == cluster)

    @cached_property
    def all_points(self) -> Points:
        """All neurons in the coordinates in which the metric is Euclidean.

        Made once, as that may take the cube of fan_in; no field, so that files do without it.
        """
        return embed(self.neurons, metric=self.config.metric, symmetry=self.symmetry, moment=self.moment)

    def points(self, members: np.ndarray | slice = slice(None)) -> Points:
        """Neurons in the coordinates in which the metric is Euclidean."""
        return self.all_points.take(members)

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
