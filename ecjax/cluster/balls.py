"""Tight clusters as weighted points: fewer distances, and a bound on what that does to a height.

Distances with signs and phases left open obey the triangle inequality, so the distance of two members differs from that
of the points that stand for them by no more than the members' own distances to these; and so does a mean of distances.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from .distances import pair_distances
from .embedding import Points, row_norms
from .members import align, aligned_points

# Largest relative error of a height that single precision adds: half the distances', and as much for averaging them,
# which adds roundings of 6e-8 one by one.
PRECISION = 1e-4

_PROBE = 1_024  # members that are covered first, to see whether the rest is worth it


@dataclass(frozen=True)
class Cover:
    """Balls that cover a component, about some of its members.

    Attributes:
        members: The points covered.
        founders: Those that the balls are about, by their place in `members`; any two are at least `radius` apart.
        ball: Ball of every member.
        radius: Largest distance of a member from its founder.
    """

    members: Int[np.ndarray, " members"]
    founders: Int[np.ndarray, " balls"]
    ball: Int[np.ndarray, " members"]
    radius: float


def cover(points: Points, members: Int[np.ndarray, " members"], most: int) -> Cover:
    """Cover some points by at most so many balls: each next founder is the member farthest from all before it.

    The radius is at most twice the smallest possible (Gonzalez, Theoretical Computer Science 38, 1985).
    """
    own, here = points.take(members), np.arange(len(members))
    founders, ball, away = [0], np.zeros(len(members), int), np.full(len(members), np.inf)
    while True:
        distance = pair_distances(own, np.full(len(members), founders[-1]), here)
        closer = distance < away
        ball[closer], away[closer] = len(founders) - 1, distance[closer]
        farthest = int(np.argmax(away))
        if len(founders) == most or away[farthest] == 0:
            return Cover(members, np.array(founders), ball, float(away[farthest]))
        founders.append(farthest)


def tight_cover(points: Points, members: Int[np.ndarray, " members"], most: int, radius: float) -> Cover | None:
    """A cover by balls of at most this radius, if `cover` finds one."""
    probe = members[np.linspace(0, len(members) - 1, min(len(members), _PROBE)).astype(int)]
    if cover(points, probe, most).radius > 2 * radius:  # then no cover of all has so small a radius
        return None
    found = cover(points, members, most)
    return found if found.radius <= radius else None


def centres(
    points: Points, cluster: Int[np.ndarray, " neurons"], sizes: Int[np.ndarray, " clusters"]
) -> tuple[Points, Float[np.ndarray, " clusters"]]:
    """One point for each cluster, its aligned members' mean in single precision; their mean distance from it."""
    order = np.argsort(cluster, kind="stable")
    first = np.cumsum(sizes) - sizes
    x, off = points.x[order[first]], np.zeros(len(sizes))
    for k in np.flatnonzero(sizes > 1):
        members = order[first[k] : first[k] + sizes[k]]
        y = aligned_points(points, members, align(points, members, int(members[0]), homogeneous=False))
        x[k] = y.mean(axis=0)
        off[k] = np.mean(row_norms(y - x[k]))
    if points.antiperiod is not None:  # next to zero, where numbers are finest
        x[:, -1] -= points.antiperiod * np.round(x[:, -1] / points.antiperiod)
    rounded = x.astype(np.float32)
    return replace(points.take(order[first]), x=rounded), off + row_norms(x - rounded)
