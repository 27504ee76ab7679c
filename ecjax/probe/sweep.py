"""Sweeps: what happens far out, where the neurons of the first layer cross zero one by one.

Far from the origin every neuron is far from its middle, on one side or the other, and its answer a straight line or a
constant. Along a line x(s) = p + s e, |p| large, each first-layer neuron crosses once, and most crossings are alone:

* activations that grow (relu, softplus, gelu, g ...): the answers are piecewise linear, and the jump of their gradient
  at a crossing is the outgoing weights times the incoming weight vector, a matrix of rank one;
* activations that saturate (tanh, sigmoid ...): the answers are piecewise constant, and at the crossing itself the
  gradient is the incoming weight vector, times the outgoing weights.

More neurons than inputs are no obstacle, nor are layers above: they cross too, but with a vector that depends on where,
so that no two sweeps agree on it. A sweep is a proposer. It is told of the planes in which earlier crossings lie, and
looks first whether a crossing in one of them has the same vector along a few random directions: that takes eight
questions where a whole gradient takes two for each dimension.

Source: crossings of relu networks: Carlini, Jagielski, Mironov, CRYPTO 2020 (arXiv:2003.04884).
"""

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from .differences import Asked, gradient, slopes
from .lines import Interval, Line, kinks, steps
from .reach import Reach

Shape = Literal["kinks", "steps"]

_ALONE = 1e-3  # second singular value beside the first, up to which a crossing is one neuron's
_STEP = 1e-2  # of slopes, in units of the gap between crossings
# Of the gradient in the middle of a step, in units of the scale. Rounding is that of questions far out, 1e-11 at 1e5;
# truncation changes the length of each entry a little, by its square.
_STEEP_STEP = 1e-3
_STEP_HEIGHT = 1e-4  # beside the highest; a neuron that is heard less is left to refinement
# Jump beside the largest, below which it may be a kink of a layer below that is known to rounding only.
_GROWN = 1e-6  # share of the answers that is no rounding: where all has come to rest, that is all that changes
_FAINT = 1e-5
_CHECKS = 4  # random directions along which a crossing is compared with one that is known
_SAME = 1e-3  # part of it that is not along the known one


class Crossing(NamedTuple):
    """Where one neuron crosses zero.

    Attributes:
        place: In the coordinates of the row space.
        line: Unit vector along which it was found.
        direction: Unit vector along the incoming weights.
        room: How far away the next crossing on the line is, at least.
        rest: What the questions had beside.
    """

    place: Float[np.ndarray, " rank"]
    line: Float[np.ndarray, " rank"]
    direction: Float[np.ndarray, " rank"]
    room: float
    rest: Float[np.ndarray, " fan_in"]

    def question(self, basis: Float[np.ndarray, "rank fan_in"]) -> Float[np.ndarray, " fan_in"]:
        """The place in the inputs as they are."""
        return self.rest + self.place @ basis


class _Site(NamedTuple):
    """An interval with a crossing, and what is known of it."""

    interval: Interval
    suspects: list[Float[np.ndarray, " rank"]]  # directions of earlier crossings in whose plane it lies


def shape_far_out(reach: Reach, *, distance: float, rng: np.random.Generator) -> Shape:
    """Whether answers grow far out, or have come to rest."""
    origin = np.where(np.isfinite(reach.low), reach.low, 0)
    ray = reach.questions(1, rng, distance=distance)[0] - origin
    near, far, twice = reach.teacher(origin + np.outer([0.01, 1.0, 2.0], ray))
    grown = np.abs(twice - far).max()
    is_more = grown > 0.1 * np.abs(far - near).max() and grown > _GROWN * np.abs(far).max()
    return "kinks" if is_more else "steps"


def sweep(
    reach: Reach,
    shape: Shape,
    *,
    distance: float,
    precision: float,
    rng: np.random.Generator,
    known: Sequence[Crossing] = (),
    is_sharp: bool = True,
) -> list[Crossing]:
    """All crossings that are alone on one random line.

    Args:
        reach: The teacher, and where it may be asked.
        shape: What a crossing looks like.
        distance: Of the line from the origin, many times the scale.
        precision: Relative error of the answers.
        rng: For the line.
        known: Crossings of earlier sweeps.
        is_sharp: Whether kinks are points, or neurons bend along some scales.
    """
    line = reach.line(distance, rng)
    found = kinks(reach.teacher, line, precision, is_sharp=is_sharp) if shape == "kinks" else steps(reach.teacher, line)
    sites = _suspected(found, reach, line, known)
    return (_kinks if shape == "kinks" else _steps)(reach, line, sites, rng) if sites else []


def _suspected(found: list[Interval], reach: Reach, line: Line, known: Sequence[Crossing]) -> list[_Site]:
    """Each interval, with the known neurons that should cross there."""
    directions = np.array([each.direction for each in known]).reshape(-1, reach.rank)
    slope = directions @ (reach.basis @ line.along)
    offset = np.array([each.place @ each.direction for each in known]) - directions @ (reach.basis @ line.nearest)
    with np.errstate(divide="ignore", invalid="ignore"):
        there = offset / slope
    sites = []
    for low, high in found:
        width = high - low
        close = np.flatnonzero((there > low - width) & (there < high + width))
        sites.append(_Site((low, high), [directions[i] for i in close]))
    return sites


def _kinks(reach: Reach, line: Line, sites: list[_Site], rng: np.random.Generator) -> list[Crossing]:
    """Neurons from jumps of the gradient between the pieces."""
    inner = [end for site in sites for end in site.interval]
    ends = [max(line.low, inner[0] - line.distance), *inner, min(line.high, inner[-1] + line.distance)]
    left, right = np.array(ends[0::2]), np.array(ends[1::2])  # of the pieces without a crossing
    middle, gap = (left + right) / 2, right - left
    points = line(middle)
    values_there = reach.teacher(points)
    step = [min(_STEP * room, reach.room(point) / 2) for room, point in zip(gap, points, strict=True)]
    of_piece = lambda i, directions: slopes(reach.teacher, points[i], directions @ reach.basis, step[i])
    along = reach.basis @ line.along
    checks = np.concatenate([along[None], _directions(reach, rng)])
    quick = [of_piece(i, checks) for i in range(len(points))]
    whole: dict[int, np.ndarray] = {}
    jumps = np.linalg.norm(np.diff(np.stack(quick), axis=0), axis=(1, 2))
    crossings = []
    for i in np.flatnonzero(jumps > _FAINT * jumps.max()).tolist():
        site = sites[i]
        # Both pieces are straight: they meet where the neuron crosses.
        before, after = quick[i][0], quick[i + 1][0]  # along the line
        jump = after - before
        apart = values_there[i + 1] - values_there[i] - after * middle[i + 1] + before * middle[i]
        place = float(-(apart @ jump) / (jump @ jump)) if jump.any() else middle[i]
        place = line([min(max(place, site.interval[0]), site.interval[1])])[0]
        if reach.is_seam(place, line.distance):
            continue
        direction = _recognised(site, checks, quick[i + 1] - quick[i])
        if direction is None:
            for j in (i, i + 1):
                if j not in whole:
                    whole[j] = of_piece(j, np.eye(reach.rank))
            direction = _rank_one(whole[i + 1] - whole[i])
        if direction is not None:
            crossings.append(_crossing(reach, place, along, direction, min(gap[i], gap[i + 1])))
    return crossings


def _steps(reach: Reach, line: Line, sites: list[_Site], rng: np.random.Generator) -> list[Crossing]:
    """Neurons from the gradient in the middle of each step."""
    found = [site.interval for site in sites]
    edges = np.array([line.low, *[(p[1] + q[0]) / 2 for p, q in itertools.pairwise(found)], line.high])
    starts, stops = np.array(found).T
    low = np.maximum(edges[:-1], starts - (stops - starts))
    high = np.minimum(edges[1:], stops + (stops - starts))
    room = np.minimum(starts - edges[:-1], edges[1:] - stops)
    before, after = reach.teacher(line(low)), reach.teacher(line(high))
    rise = after - before
    places = line(_steepest(reach.teacher, line, low, high, before, rise, reach.scale))
    height = np.linalg.norm(rise, axis=1)
    checks, step, crossings = _directions(reach, rng), _STEEP_STEP * reach.scale, []
    for site, place, free, high_here in zip(sites, places, room, height, strict=True):
        if high_here < _STEP_HEIGHT * height.max():
            continue  # the tail of a step
        direction = None
        if site.suspects:
            direction = _recognised(site, checks, gradient(reach.teacher, place, checks @ reach.basis, step))
        if direction is None:
            direction = _rank_one(gradient(reach.teacher, place, reach.basis, step))
        if direction is not None:
            crossings.append(_crossing(reach, place, reach.basis @ line.along, direction, free))
    return crossings


def _crossing(reach: Reach, question: np.ndarray, along: np.ndarray, direction: np.ndarray, room: float) -> Crossing:
    return Crossing(question @ reach.basis.T, along, direction, float(room), reach.beside(question).rest)


def _steepest(ask: Asked, line: Line, low, high, before, rise, scale: float) -> Float[np.ndarray, " steps"]:
    """About where half of each rise is behind."""
    left, right = low.copy(), high.copy()
    while (right - left > scale / 4).any():
        middle = (left + right) / 2
        if not ((left < middle) & (middle < right)).all():
            break  # the numbers of the line are no finer
        is_before = np.sum((ask(line(middle)) - before) * rise, axis=1) < 0.5 * np.sum(rise**2, axis=1)
        left, right = np.where(is_before, middle, left), np.where(is_before, right, middle)
    return (left + right) / 2


def _directions(reach: Reach, rng: np.random.Generator) -> Float[np.ndarray, "checks rank"]:
    """A few random unit vectors."""
    some = rng.standard_normal((_CHECKS, reach.rank))
    return some / np.linalg.norm(some, axis=1, keepdims=True)


def _recognised(site: _Site, directions: np.ndarray, change: Float[np.ndarray, "checks fan_out"]):
    """The known direction whose neuron would make this change of the answers along some directions, if one does."""
    for known in site.suspects:
        along = directions @ known
        rest = change - np.outer(along, along @ change) / (along @ along)
        if np.linalg.norm(rest) < _SAME * np.linalg.norm(change):
            return known
    return None


def _rank_one(matrix: Float[np.ndarray, "rank fan_out"]):
    """The direction of a matrix of rank one, or None if it is none."""
    vectors, singular, _ = np.linalg.svd(matrix, full_matrices=False)
    alone = singular[0] > 0 and (len(singular) == 1 or singular[1] < _ALONE * singular[0])
    return vectors[:, 0] if alone else None
