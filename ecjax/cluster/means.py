"""Mean distances between clusters, from which average linkage goes on."""

import numpy as np
from jaxtyping import Float, Int

from .distances import distance_tiles
from .embedding import Points

_ROWS = 32  # rows that are mirrored at a time

Square = Float[np.ndarray, "clusters clusters"]


def square_distances(points: Points) -> Square:
    """Distances of all pairs as a square matrix, in the precision of the points."""
    square = np.empty((len(points),) * 2, points.x.dtype)
    for rows, columns, tile in distance_tiles(points):
        square[rows, columns] = tile
    return _mirrored(square)


def mean_distances(points: Points, cluster: Int[np.ndarray, " neurons"], sizes: Int[np.ndarray, " clusters"]) -> Square:
    """Mean distance between the members of every two clusters; all distances are computed, but never kept.

    Args:
        points: The members.
        cluster: Of every point: 0 ... clusters - 1, smaller ones first, so that most sums are along rows of a tile.
        sizes: Number of members, in ascending order.

    Returns:
        Symmetric to the last bit, with a diagonal of zeros.
    """
    order = np.argsort(cluster, kind="stable")
    of = cluster[order]
    total = np.zeros((len(sizes),) * 2)
    for rows, columns, tile in distance_tiles(points.take(order), apart=of):
        i, j = (slice(of[at][0], of[at][-1] + 1) for at in (rows, columns))
        total[i, j] += _sum_runs(_sum_runs(tile, of[columns], axis=1), of[rows], axis=0)
    single = int(np.sum(sizes == 1))
    total[single:] /= sizes[single:, None]
    total[:, single:] /= sizes[single:]
    return _mirrored(total)


def _sum_runs(x: np.ndarray, of: np.ndarray, axis: int) -> np.ndarray:
    """Sums of the rows or columns that belong to one cluster; `of` ascends."""
    starts = np.flatnonzero(np.diff(of, prepend=-1))
    return x if len(starts) == len(of) else np.add.reduceat(x, starts, axis=axis)


def _mirrored(square: Square) -> Square:
    """The square with its lower triangle written from its upper one, some rows that fit the cache at a time."""
    for r in range(0, len(square), _ROWS):
        rows, rest = slice(r, r + _ROWS), slice(r + _ROWS, None)
        upper = np.triu(square[rows, rows], 1)
        square[rows, rows] = upper + upper.T
        square[rest, rows] = square[rows, rest].T
    return square
