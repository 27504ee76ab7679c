"""How the answer depends on the thresholds: a grid of gamma and beta on one dendrogram."""

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .cut import is_agreement
from .mixed import LayerClustering
from .verdict import judge_again


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
    clustering: LayerClustering,
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
    gammas = [gamma for gamma in gammas if is_agreement(gamma, clustering.n_students)]
    if not gammas:
        raise ValueError(f"`gammas`: none of them means two of the {clustering.n_students} students.")
    cell = lambda gamma, beta: dataclasses.replace(clustering.config, gamma=float(gamma), beta=float(beta))
    widths = np.zeros((len(gammas), len(betas)), int)
    for one in clustering.groups:
        traits = {}
        widths += [[judge_again(one, cell(gamma, beta), traits).width for beta in betas] for gamma in gammas]
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
