"""What vouches for a cluster: how its members point, how far they spread.

Members are first aligned: brought to one sign and phase, next to one of them. Distances of tight clusters are measured
about their middle, where the product form does not cancel.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from .distances import condensed_distances, distance_tiles
from .embedding import Points, row_norms

_WHOLE = 4_096  # members up to which all angles are held at once: 64 MB
_BINS = 4_096
_FEW = 32  # members whose pairs are measured on the host: a call to the device takes longer


@dataclass(frozen=True)
class Alignment:
    """How each member of a cluster becomes comparable with the others: sign * vector / scale, phase added to the bias.

    The same neuron is written with outgoing weights a' where a' fn(z') = a fn(z) up to what the symmetry says of the
    sign; `turns` counts the antiperiods in `phase`, each of which changes the sign of the outgoing weights.
    """

    sign: Float[np.ndarray, " members"]
    scale: Float[np.ndarray, " members"]
    phase: Float[np.ndarray, " members"]
    turns: Int[np.ndarray, " members"]


def align(points: Points, members: Int[np.ndarray, " members"], reference: int, *, homogeneous: bool) -> Alignment:
    """Sign, scale and phase that bring the members next to the neuron `reference`."""
    x, to = points.x[members], points.x[reference]
    p = points.antiperiod
    # The reference itself is brought to a phase next to zero, so that representatives don't depend on who is first.
    target = to[-1] - p * np.round(to[-1] / p) if p is not None else to[-1]
    signs = (1.0, -1.0) if points.sign_free else (1.0,)
    turns = [np.round((target - s * x[:, -1]) / p) if p is not None else np.zeros(len(x)) for s in signs]
    away = [
        np.sum((s * x[:, :-1] - to[:-1]) ** 2, axis=1) + (s * x[:, -1] + t * (p or 0.0) - target) ** 2
        for s, t in zip(signs, turns, strict=True)
    ]
    choice = np.argmin(away, axis=0)
    turn = np.choose(choice, turns)
    scale = points.norm[members] if homogeneous else np.ones(len(x))
    return Alignment(np.array(signs)[choice], np.where(scale > 0, scale, 1.0), turn * (p or 0.0), turn.astype(int))


def aligned_points(points: Points, members: Int[np.ndarray, " members"], alignment: Alignment) -> np.ndarray:
    """The members' points, brought to one sign and phase (their norm is already one where scale is free)."""
    x = points.x[members] * alignment.sign[:, None]
    x[:, -1] += alignment.phase
    return x


def _settled(points: Points, x: Float[np.ndarray, "members coordinates"], middle: np.ndarray) -> bool:
    """Whether aligned members lie so close to a point that no pair is closer in another sign or phase.

    Two members within r of the middle m are at most 2 r apart, and with one of them flipped at least 2 |m| - 2 r; of
    the last coordinate nothing is left of that where a phase may move it, by p / 2 at most.
    """
    farthest = float(np.max(row_norms(x - middle)))
    if points.antiperiod is not None:
        middle = middle[:-1]
    return (not points.sign_free or farthest <= float(np.linalg.norm(middle)) / 2) and (
        points.antiperiod is None or farthest <= points.antiperiod / 4
    )


def _about(points: Points, x: Float[np.ndarray, "members coordinates"]) -> tuple[Points, Points]:
    """Aligned members about their own middle, and as they are: what product and difference form measure.

    Copies differ from their neuron by errors of very different size, so the middle is a median: beside it, no error is
    small.
    """
    middle = np.median(x, axis=0)
    if not _settled(points, x, middle):
        return points, points
    whole = replace(points, x=x, sign_free=False, antiperiod=None)
    return replace(whole, x=x - middle), whole


def member_distances(points: Points, members: Int[np.ndarray, " members"]) -> Float[np.ndarray, " pairs"]:
    """Condensed distances between some points, accurate and fast where they are copies of one neuron."""
    x = aligned_points(points, members, align(points, members, int(members[0]), homogeneous=False))
    if len(members) <= _FEW and not points.cosine and _settled(points, x, x[0]):
        i, j = np.triu_indices(len(members), 1)
        return row_norms(x[i] - x[j])
    about, whole = _about(points.take(members), x)
    return condensed_distances(about, exact=whole)


def median_angle(x: Float[np.ndarray, "members coordinates"], dead: np.ndarray, *, sign_free: bool = False) -> float:
    """Median angle between two members, in radians.

    Exact for clusters of any size; those too large to hold all pairs are gone through by blocks, several times.

    Args:
        x: Aligned members.
        dead: Which of them have no direction. Their angles count as pi, so that they fail any threshold.
        sign_free: Whether a member may still be taken with the other sign, pair by pair.

    Returns:
        nan for a lone member.
    """
    if len(x) < 2:
        return float("nan")
    live = ~dead
    norm = row_norms(x[live])
    unit = x[live] / np.where(norm > 0, norm, 1.0)[:, None]
    n_pairs, n_live = len(x) * (len(x) - 1) // 2, len(unit) * (len(unit) - 1) // 2
    ranks = sorted({(n_pairs - 1) // 2, n_pairs // 2})
    if ranks[-1] >= n_live:  # undefined angles come last, and reach the middle
        return float(np.pi)
    points = Points(unit, dead[live], norm, sign_free, None)
    # An angle grows with the distance of the unit vectors, 2 sin(angle / 2), which is accurate for tiny angles too.
    if len(unit) <= _WHOLE:
        chords = np.partition(member_distances(points, np.arange(len(unit))), ranks)[ranks]
    else:
        chords = np.array([_chord_of_rank(points, rank) for rank in ranks])
    return float(np.mean(2 * np.arcsin(np.minimum(chords / 2, 1.0))))


def _chord_of_rank(points: Points, rank: int) -> float:
    """The distance with that rank among all pairs, without holding them: histograms of ever narrower ranges."""
    low, high = 0.0, 2.0 + 1e-9  # no chord is longer than 2, but for rounding
    while True:
        edges = np.linspace(low, high, _BINS + 1)
        counts, below, held = np.zeros(_BINS, int), 0, []
        for values in _pair_blocks(points):
            below += int(np.sum(values < low))
            inside = values[(values >= low) & (values < high)]
            counts += np.histogram(inside, edges)[0]
            held.append(inside if sum(map(len, held)) + len(inside) <= _WHOLE**2 else inside[:0])
        if sum(map(len, held)) == counts.sum():
            return float(np.partition(np.concatenate(held), rank - below)[rank - below])
        bin_of_rank = int(np.searchsorted(np.cumsum(counts), rank - below, side="right"))
        low, high = edges[bin_of_rank], edges[bin_of_rank + 1]
        if not low < (low + high) / 2 < high:  # no number lies between: all that is left is equal
            return float(low)


def _pair_blocks(points: Points):
    about, whole = _about(points, points.x)
    for rows, columns, tile in distance_tiles(about, exact=whole):
        yield tile[np.triu_indices(len(tile), 1)] if rows == columns else tile.ravel()


def spread(x: Float[np.ndarray, "members coordinates"]) -> float:
    """Root mean square distance of the aligned members from their mean."""
    return float(np.sqrt(np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1))))
