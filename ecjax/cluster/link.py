"""From points to a dendrogram: the whole matrix while it is small, and what is known without it beyond that.

    matrix       all distances at once, linked by SciPy; the memory of n^2 numbers, half of it SciPy's copy
    components   the components of the R-neighbour graph are linked one by one: the exact dendrogram up to R. Above R,
                 the exact mean distances between the clusters that stand at R continue it, if their matrix fits;
                 else it ends there, and `known_up_to` says so
    balls        as `components`, but a cluster that stands at R counts as one weighted point, its centre: far fewer
                 distances, in single precision, and heights within `height_error` of the mean distances that they stand
                 for. A component too large to link is covered by balls in the same way
    auto         matrix, then components; balls only where memory leaves no other way

Why components are enough: a mean is at least its minimum, so clusters merge below R only if some pair of their members
is closer than R; and heights of average linkage never decrease.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..base.memory import require_memory
from .balls import PRECISION, Cover, centres, tight_cover
from .distances import condensed_distances, nearest_distances
from .embedding import Points, row_norms
from .linkage import Merges, average_linkage, dendrogram, gathered, merges_of, weighted_linkage
from .means import mean_distances, square_distances
from .members import member_distances
from .neighbours import Bound, bound, components, farthest_radius

Linkage = Literal["auto", "matrix", "components", "balls"]

MATRIX_UP_TO = 2_000  # vectors up to which the whole matrix is as fast as anything, in 17 dimensions as in 785
_SAMPLE = 256  # vectors whose nearest neighbours tell at which distances copies end and dust begins
_HALVINGS = 20  # a millionth of the radius to begin with, which was one between copies and dust
_BALLS = 256  # most balls that cover a component: all its members are measured from each
# Largest radius of such a ball beside that of the components. Heights are off by twice the ball's (`height_error`):
# half of the height at which the component stands alone, so that it stays one cluster.
_TIGHT = 0.25
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
        remedy = 'lower `n_students`, or say linkage="components"'
        require_memory(needs * _GIB, f"Distances between {n:,} neurons", remedy)
        linkage = average_linkage(condensed_distances(points))
        return Linked(linkage, float("inf"), 0.0, f"all distances of {n} vectors ({needs:.2g} GiB)")
    if method == "balls" and points.cosine:
        raise ValueError('`linkage` "balls" needs a metric with a triangle inequality; "cosine" is none.')
    return _link_components(points, method, memory, resolution)


def matrix_memory(n: int) -> float:
    """GiB that linking n vectors by their condensed float64 matrix takes, with SciPy's copy of it."""
    return n * (n - 1) * 8 / _GIB


def _link_components(points: Points, method: Linkage, memory: float, resolution: float) -> Linked:
    n, may_collapse = len(points), method != "components" and not points.cosine
    at = bound(points)
    radius = _radius(points, at, resolution, tight=method == "balls")
    radius, groups = _fitting_components(points, at, radius, memory, may_collapse)
    if points.cosine:  # the bound and its radius are Euclidean: 1 - cos = |u - v|^2 / 2
        radius = radius**2 / 2
    parts = [_below(_link_component(points, group), radius) for group in groups]
    balls = [group.radius for group in groups if isinstance(group, Cover)]
    error = 2 * max(balls, default=0.0)
    names, cluster, sizes = _standing(parts, n)
    m, how = len(names), f"{len(parts)} components of {n} vectors closer than {radius:.3g}"
    if balls:
        how += f", {len(balls)} of them too large to link and covered by balls of radius {max(balls):.3g}"

    if method != "balls" and m * m * 8 / _GIB <= memory:
        means, rounding = mean_distances(points, cluster, sizes), 0.0
        how += f"; mean distances of {m} clusters"
    elif may_collapse and m * m * 4 / _GIB <= memory:
        centre, off = centres(points, cluster, sizes)
        means, rounding = square_distances(centre), PRECISION
        how += f"; {m} balls, each one weighted point"
        error += float(np.sum(np.sort(off)[-2:]))
    else:
        how += f"; not linked further: the distances of {m} clusters take {m * m * 8 / _GIB:.3g} GiB"
        return Linked(dendrogram(n, parts), radius, error, how)
    a, b, heights = weighted_linkage(means, sizes)
    error += rounding * float(heights.max(initial=0.0))
    # Clusters that stand apart at R have mean distances above R, of which an approximation may fall short.
    parts.append((names[a], names[b], np.maximum(heights, radius) if error else heights))
    return Linked(dendrogram(n, parts), float("inf"), error, how)


def _radius(points: Points, at: Bound, resolution: float, *, tight: bool) -> float:
    """A Euclidean radius between copies and dust: the largest at which looking for neighbours is cheap, or a tight one.

    Copies have near neighbours, dust has far ones: between them is the widest gap.
    """
    sample = np.linspace(0, len(points) - 1, min(len(points), _SAMPLE)).astype(int)
    floor = resolution * float(np.median(row_norms(points.x[sample]))) or 1.0
    nearest = np.sort(nearest_distances(points, sample))
    if points.cosine:
        nearest = np.sqrt(2 * nearest)
    gap = int(np.argmax(np.diff(np.log(nearest + floor))))
    copies, dust = nearest[gap], nearest[gap + 1]
    between = np.sqrt((copies + floor) * (dust + floor))
    radius = between if tight else min(dust / 2, max(farthest_radius(at, 2 * copies + floor), between))
    return float(max(radius, floor))


def _fitting_components(
    points: Points, at: Bound, radius: float, memory: float, may_collapse: bool
) -> tuple[float, list[np.ndarray | Cover]]:
    """The largest radius, of the given one and its halves, whose components can be linked; those of several vectors.

    A component can be linked if its distances fit in memory, or if a few balls cover it that are small beside the
    radius: copies of one neuron, too many to link one by one.
    """
    most = max(1, min(_BALLS, int((memory * _GIB / 8) ** 0.5)))
    for _ in range(_HALVINGS):
        label = components(points, at, radius)
        groups = np.split(np.argsort(label, kind="stable"), np.cumsum(np.bincount(label))[:-1])
        groups = sorted((group for group in groups if len(group) > 1), key=len)
        linkable: list[np.ndarray | Cover] = [group for group in groups if matrix_memory(len(group)) <= memory]
        for group in groups[len(linkable) :] if may_collapse else []:
            balls = tight_cover(points, group, most, _TIGHT * radius)
            if balls is None:
                break
            linkable.append(balls)
        if len(linkable) == len(groups):
            return radius, linkable
        radius /= 2
    largest = len(groups[-1])
    raise ValueError(
        f"`memory`: {largest} vectors lie within {2 * radius:.3g} of each other, and their distances take "
        f"{matrix_memory(largest):.1f} GiB, more than {memory:g} GiB. Raise `memory`"
        + ("." if may_collapse else ', or let linkage="auto" collapse them, for another metric than "cosine".')
    )


def _link_component(points: Points, group: np.ndarray | Cover) -> Merges:
    if not isinstance(group, Cover):
        return merges_of(average_linkage(member_distances(points, group)), group)
    # Members of a ball merge at its radius: their distances are between 0 and twice that, those of balls are larger.
    founder, others = group.members[group.founders], np.setdiff1d(np.arange(len(group.members)), group.founders)
    a, b, heights = weighted_linkage(square_distances(points.take(founder)), np.bincount(group.ball))
    return (
        np.concatenate([founder[group.ball[others]], founder[a]]),
        np.concatenate([group.members[others], founder[b]]),
        np.concatenate([np.full(len(others), group.radius), np.maximum(heights, group.radius)]),
    )


def _below(merges: Merges, radius: float) -> Merges:
    a, b, heights = merges
    end = int(np.searchsorted(heights, radius, side="right"))
    return a[:end], b[:end], heights[:end]


def _standing(parts: list[Merges], n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The clusters that stand after these merges, by ascending size: a vector of each, every vector's, their sizes."""
    a, b, _ = gathered(parts)
    label = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)), directed=False)[1]
    _, names, cluster, sizes = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(sizes, kind="stable")
    return names[order], np.argsort(order)[cluster], sizes[order]
