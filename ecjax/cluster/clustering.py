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

import numpy as np
from jaxtyping import Bool, Float, Int

from ..network import Activation, LayerActivation, Symmetry
from . import cut as cutting
from .cut import Policy
from .embedding import embed, row_norms, second_moment
from .link import link
from .metric import as_metric
from .mixed import LayerClustering, MixedClustering
from .record import ClusterConfig, Clustering
from .verdict import judge, judge_again


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
        moment: `second_moment` of the layer's inputs, for metrics that need it, as "preactivation" does.
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
    return judge(points, neurons, student, n_students, moment, symmetry, config, linked)


def cluster_layer(
    w: Float[np.ndarray, "students width fan_in"],
    b: Float[np.ndarray, "students width"],
    *,
    activation: LayerActivation,
    counted: Bool[np.ndarray, " students"],
    inputs: Float[np.ndarray, "samples fan_in"],
    config: ClusterConfig | None = None,
) -> LayerClustering:
    """Cluster the neurons of one layer of a stack of students.

    Args:
        w: Incoming weight vectors.
        b: Biases.
        activation: Of the layer. The neurons of each activation of a mixture are clustered by themselves.
        counted: Which students count; those that diverged do not.
        inputs: Of the layer; what the metric "preactivation" measures with.
        config: Thresholds, metric, policy.

    Raises:
        ValueError: As `cluster_neurons`; if the policy is "count" and the layer a mixture of several activations.
    """
    config = config or ClusterConfig()
    moment = second_moment(inputs) if as_metric(config.metric).needs_moment else None
    neurons = np.concatenate([w, b[..., None]], axis=-1)[counted]
    whose = np.broadcast_to(np.flatnonzero(counted)[:, None], neurons.shape[:2])

    def clustered(kind: Activation, mine: np.ndarray | slice, config: ClusterConfig) -> Clustering:
        return cluster_neurons(
            neurons[:, mine].reshape(-1, neurons.shape[-1]),
            whose[:, mine].reshape(-1),
            n_students=len(w),
            symmetry=kind.symmetry,
            moment=moment,
            config=config,
        )

    kinds = activation.groups(w.shape[1])
    if len(kinds) == 1:
        return clustered(kinds[0][0], slice(None), config)
    place = np.arange(whose.size).reshape(whose.shape)
    groups = tuple(clustered(kind, mine, _not_counted(config)) for kind, mine in kinds)
    return MixedClustering(groups, tuple(place[:, mine].ravel() for _, mine in kinds))


def recut(
    clustering: LayerClustering,
    *,
    gamma: float | None = None,
    beta: float | None = None,
    policy: Policy | None = None,
    n_clusters: int | None = None,
    height: float | None = None,
    resolution: float | None = None,
) -> LayerClustering:
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
    config = dataclasses.replace(clustering.config, **asked)
    if not isinstance(clustering, MixedClustering):
        return judge_again(clustering, config, {})
    groups = tuple(judge_again(one, _not_counted(config), {}) for one in clustering.groups)
    return dataclasses.replace(clustering, groups=groups)


def _not_counted(config: ClusterConfig) -> ClusterConfig:
    """The settings of every activation of a mixture."""
    if config.policy == "count":
        raise ValueError(
            '`policy` "count" asks for a number of neurons of one activation, and the layer has several: take '
            '"agreement", or give a `height`.'
        )
    return config


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
