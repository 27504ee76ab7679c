"""From points to a dendrogram: the whole matrix while it is small, and what is known without it beyond that.

    matrix       all distances at once, one library call; the memory of n^2 / 2 numbers
    components   the components of the R-neighbour graph are linked one by one: the exact dendrogram up to R. Above R,
                 the exact mean distances between the clusters that stand at R continue it, if their matrix fits;
                 else it ends there, and `known_up_to` says so
    balls        as `components`, but a tight component counts as one weighted point, its centre: far fewer distances,
                 and heights within `height_error` of the mean distances that they stand for

Why components are enough: a mean is at least its minimum, so clusters merge below R only if some pair of their members
is closer than R; and heights of average linkage never decrease.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from .distances import condensed_distances, distance_tiles, nearest_distances
from .embedding import Points, row_norms
from .filters import align, aligned_points, member_distances
from .linkage import Merges, average_linkage, dendrogram, library, merges_of, weighted_linkage
from .neighbours import bound, components, farthest_radius

Linkage = Literal["auto", "matrix", "components", "balls"]

MATRIX_UP_TO = 3_000  # vectors up to which "auto" never looks for anything better than the whole matrix
_SAMPLE = 256  # vectors whose nearest neighbours tell at which distances copies end and dust begins
_HALVINGS = 20
_GIB = 2**30


@dataclass(frozen=True)
class Linked:
    """A dendrogram, how far it is known, how exactly, and how it was made."""

    linkage: Float[np.ndarray, "merges 4"]
    known_up_to: float
    height_error: float  # largest difference of a height and the mean distance that it stands for; 0 if exact
    how: str


def link(points: Points, *, method: Linkage, memory: float, resolution: float) -> Linked:
    """Average linkage of the points by `method`, within about `memory` GiB beside the points.

    Args:
        points: To link.
        method: "auto" takes the matrix while it fits easily, then components; see the head of this file.
        memory: In GiB: what a matrix of distances may take.
        resolution: Share of the norm below which distances are agreement.

    Raises:
        ValueError: If the matrix is forced but does not fit, or balls are asked of cosine distances.
    """
    n = len(points)
    needs = matrix_memory(n)
    if method == "matrix" and needs > memory:
        raise ValueError(
            f'`linkage` "matrix" of {n} vectors takes {needs:.1f} GiB, more than the `memory` of {memory:g} GiB. Raise '
            'that, or let linkage="auto" or "components" do without the whole matrix.'
        )
    if method == "matrix" or (method == "auto" and n <= MATRIX_UP_TO and needs <= memory):
        linkage = average_linkage(condensed_distances(points), n)
        return Linked(linkage, float("inf"), 0.0, f"all distances of {n} vectors ({needs:.2g} GiB), {library(n)}")
    if method == "balls" and points.cosine:
        raise ValueError('`linkage` "balls" needs a metric with a triangle inequality; "cosine" is none.')
    return _link_components(points, method, memory, resolution)


def matrix_memory(n: int) -> float:
    """GiB that linking n vectors by their condensed float64 matrix takes, with the library's copy if it makes one."""
    return n * (n - 1) / 2 * 8 / _GIB * (1 if library(n) == "fastcluster" else 2)


def _link_components(points: Points, method: Linkage, memory: float, resolution: float) -> Linked:
    n = len(points)
    radius, label = _fitting_components(points, memory, resolution, tight=method == "balls")
    order = np.argsort(label, kind="stable")
    parts: list[Merges] = []
    standing = np.arange(n)  # the cluster of every vector at height `radius`, named by one of its vectors
    for group in np.split(order, np.cumsum(np.bincount(label))[:-1]):
        if len(group) > 1:
            a, b, heights = merges_of(average_linkage(member_distances(points, group), len(group)), group)
            below = int(np.searchsorted(heights, radius, side="right"))
            parts.append((a[:below], b[:below], heights[:below]))
            standing[group] = _names(group, a[:below], b[:below])
    names, cluster, sizes = np.unique(standing, return_inverse=True, return_counts=True)
    larger = np.argsort(-sizes, kind="stable")  # single vectors last, where there is nothing to sum
    names, cluster, sizes = names[larger], np.argsort(larger)[cluster], sizes[larger]
    m, how = len(names), f"{len(parts)} components of {n} vectors closer than {radius:.3g}"
    if m * m * 8 / _GIB > memory:
        how += f"; not linked further: the distances of {m} clusters take {m * m * 8 / _GIB:.3g} GiB"
        return Linked(dendrogram(n, parts), radius, 0.0, how)
    if method == "balls":
        centres, error = _centres(points, cluster, sizes)
        means, how = _square_distances(centres), f"{how}; {m} balls, each one weighted point"
    else:
        means, error = _mean_distances(points, cluster, sizes), 0.0
        how += f"; mean distances of {m} clusters"
    a, b, heights = weighted_linkage(means, sizes)
    # Clusters that stand apart at R have mean distances above R: their centres' distances may be rounded up to it.
    parts.append((names[a], names[b], np.maximum(heights, radius) if error else heights))
    return Linked(dendrogram(n, parts), float("inf"), error, how)


def _fitting_components(points: Points, memory: float, resolution: float, *, tight: bool) -> tuple[float, np.ndarray]:
    """The largest radius within reach whose components fit in memory, and the components."""
    sample = np.linspace(0, len(points) - 1, min(len(points), _SAMPLE)).astype(int)
    floor = resolution * float(np.median(row_norms(points.x[sample]))) or 1.0
    nearest = np.sort(nearest_distances(points, sample))
    if points.cosine:  # the bound and its radius are Euclidean: 1 - cos = |u - v|^2 / 2
        nearest = np.sqrt(2 * nearest)
    # Copies have near neighbours, dust has far ones: between them is the widest gap.
    gap = int(np.argmax(np.diff(np.log(nearest + floor))))
    copies, dust = nearest[gap], nearest[gap + 1]
    at = bound(points)
    radius = np.sqrt((copies + floor) * (dust + floor)) if tight else dust / 2
    if not tight:
        radius = min(radius, max(farthest_radius(at, 2 * copies + floor), np.sqrt((copies + floor) * (dust + floor))))
    radius = float(max(radius, floor))
    for _ in range(_HALVINGS):
        label = components(points, at, radius)
        largest = int(np.bincount(label).max())
        if matrix_memory(largest) <= memory:
            return (radius**2 / 2 if points.cosine else radius), label
        radius /= 2
    raise ValueError(
        f"`memory`: {largest} vectors lie within {radius:.3g} of each other, and their distances take "
        f"{matrix_memory(largest):.1f} GiB, more than {memory:g} GiB. Raise `memory`."
    )


def _names(group: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """For each vector of a component, the vector that names its cluster once these merges are made."""
    place = {vector: k for k, vector in enumerate(group.tolist())}
    above = np.arange(len(group))
    for i, j in zip(a.tolist(), b.tolist(), strict=True):
        above[above == above[place[j]]] = above[place[i]]
    return group[above]


def _centres(points: Points, cluster: np.ndarray, sizes: np.ndarray) -> tuple[Points, float]:
    """Mean of each cluster's aligned members, and how far a mean distance can be from the distance of the means.

    Distances with signs and phases left open obey the triangle inequality, so the distance of two members differs from
    that of the centres by no more than the members' distances to their centres.
    """
    order = np.argsort(cluster, kind="stable")
    first = np.cumsum(sizes) - sizes
    x, off = points.x[order[first]].copy(), np.zeros(len(sizes))
    for k in np.flatnonzero(sizes > 1):
        members = order[first[k] : first[k] + sizes[k]]
        y = aligned_points(points, members, align(points, members, int(members[0]), homogeneous=False))
        x[k] = y.mean(axis=0)
        off[k] = np.mean(row_norms(y - x[k]))
    error = float(np.sum(np.sort(off)[-2:]))
    return Points(x, points.dead[order[first]], points.norm[order[first]], points.sign_free, points.antiperiod), error


def _square_distances(points: Points) -> Float[np.ndarray, "clusters clusters"]:
    square = np.empty((len(points),) * 2)
    for rows, columns, tile in distance_tiles(points):
        square[rows, columns] = tile
        square[columns, rows] = tile.T
    return square


def _mean_distances(points: Points, cluster: np.ndarray, sizes: np.ndarray) -> Float[np.ndarray, "clusters clusters"]:
    """Mean distance between the members of every two clusters; all distances are computed, but never kept."""
    order = np.argsort(cluster, kind="stable")
    of = cluster[order]
    total = np.zeros((len(sizes),) * 2)
    for rows, columns, tile in distance_tiles(points.take(order), apart=of):
        summed = _sum_runs(_sum_runs(tile, of[rows]).T, of[columns]).T
        i, j = slice(of[rows][0], of[rows][-1] + 1), slice(of[columns][0], of[columns][-1] + 1)
        total[i, j] += summed
        if rows != columns:
            total[j, i] += summed.T
    total /= sizes[:, None]
    total /= sizes[None, :]
    return total


def _sum_runs(x: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Sums of the rows that belong to one cluster; `of` ascends."""
    starts = np.flatnonzero(np.diff(of, prepend=-1))
    return x if len(starts) == len(x) else np.add.reduceat(x, starts, axis=0)
