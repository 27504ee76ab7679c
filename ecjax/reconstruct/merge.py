"""Clusters to neurons: one incoming weight vector for each cluster that was kept."""

import numpy as np
from jaxtyping import Float, Int

from ..cluster import LayerClustering
from ..network import LayerActivation, Mixture
from .output import Neurons


def merge(
    clustering: LayerClustering,
    loss: Float[np.ndarray, " students"],
    activation: LayerActivation,
    *,
    clusters: Int[np.ndarray, " clusters"],
) -> Neurons:
    """The neurons that stand for some of the clusters.

    Of each the member of the best student that is present, unless it strays: only members at most as far from
    the most typical one as half of the members are come into question. Copies inside that student count once, since
    outgoing weights are found anew by least squares (`ecjax.reconstruct.output`).

    Args:
        clustering: Of one layer.
        loss: Imitation loss of every student.
        activation: Of the students' layer; the groups of a mixture are those of the clustering.
        clusters: Which; `clustering.kept_clusters` for those that were kept.

    Source:
        Martinelli et al., ICML 2024 (arXiv:2304.12794), section on reconstruction. The reference takes the five best
        students overall and drops in silence a cluster that none of them has.
    """
    kinds = activation.each if isinstance(activation, Mixture) else (activation,)
    kinds = list(dict.fromkeys(kinds))
    vectors, each = [], []
    for k in clusters:
        aligned = clustering.aligned(int(k))
        core = slice(0, (len(aligned.members) + 1) // 2)  # most typical first
        best = np.argmin(loss[aligned.student[core]])
        vectors.append(aligned.vectors[core][best])
        each.append(kinds[clustering.group_of(int(k))])
    found = np.array(vectors).reshape(len(vectors), clustering.fan_in_1)
    return Neurons(found, Mixture(tuple(each)) if isinstance(activation, Mixture) and each else activation)
