"""Clusters to neurons: one incoming weight vector for each cluster that was kept."""

import numpy as np
from jaxtyping import Float, Int

from ..cluster import Clustering


def merge(
    clustering: Clustering, loss: Float[np.ndarray, " students"], *, clusters: Int[np.ndarray, " clusters"]
) -> Float[np.ndarray, "clusters fan_in_1"]:
    """The incoming weight vectors (bias last) that stand for some of the clusters.

    Of each the member of the best student that is present, unless it strays: only members at most as far from
    the most typical one as half of the members are come into question. Copies inside that student count once, since
    outgoing weights are found anew by least squares (`ecjax.reconstruct.output`).

    Args:
        clustering: Of one layer.
        loss: Imitation loss of every student.
        clusters: Which; `clustering.kept_clusters` for those that were kept.

    Source:
        Martinelli et al., ICML 2024 (arXiv:2304.12794), section on reconstruction. The reference takes the five best
        students overall and drops in silence a cluster that none of them has.
    """
    vectors = []
    for k in clusters:
        aligned = clustering.aligned(int(k))
        core = slice(0, (len(aligned.members) + 1) // 2)  # most typical first
        best = np.argmin(loss[aligned.student[core]])
        vectors.append(aligned.vectors[core][best])
    return np.array(vectors).reshape(len(vectors), clustering.neurons.shape[1])
