"""Sweeps: what happens far out, where the neurons of the first layer cross zero one by one.

Far from the origin every neuron is far from its middle, on one side or the other, and its answer a straight line or a
constant. Along a line u(s) = p + s e, |p| large, each first-layer neuron crosses once, and most crossings are alone:

* activations that grow (relu, softplus, gelu, g ...): the answers are piecewise linear, and the jump of their gradient
  at a crossing is the outgoing weights times the incoming weight vector, a matrix of rank one;
* activations that saturate (tanh, sigmoid ...): the answers are piecewise constant, and at the crossing itself the
  gradient is the incoming weight vector, times the outgoing weights.

More neurons than inputs are no obstacle, nor are layers above: they cross too, but with a vector that depends on where,
so that no two sweeps agree on it. A sweep is a proposer.

Source: crossings of relu networks: Carlini, Jagielski, Mironov, CRYPTO 2020 (arXiv:2003.04884).
"""

import itertools
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from .differences import Asked, gradient, gradient_step, slopes

Shape = Literal["kinks", "steps"]

_START = 256  # intervals of the half circle that a line is seen under
_WIDEST = 1.55  # angle up to which a line is followed: 50 times its distance
_ASKEW = 1e-3  # so that the point nearest to the origin is no end of an interval: a crossing at an end is not seen
# Length of an interval, in units of the distance, at which a crossing counts as located; two crossings that are nearer
# to each other are seen as one of rank two, and left to the next sweep.
_LOCATED = 3e-5
_OFF = 100.0  # roundings by which the middle of a chord is off it, if something happens in between
_ALONE = 1e-3  # second singular value beside the first, up to which a crossing is one neuron's
_STEP = 1e-2  # of slopes, in units of the gap between crossings
_HALVINGS = 60
_STEP_HEIGHT = 1e-4  # beside the highest; a neuron that is heard less is left to refinement


class Crossing(NamedTuple):
    """Where one neuron crosses zero.

    Attributes:
        place: In the coordinates of the row space.
        line: Unit vector along which it was found.
        direction: Unit vector along the incoming weights.
        room: How far away the next crossing on the line is, at least.
    """

    place: Float[np.ndarray, " rank"]
    line: Float[np.ndarray, " rank"]
    direction: Float[np.ndarray, " rank"]
    room: float


class Line(NamedTuple):
    """A straight line at some distance from the origin."""

    nearest: Float[np.ndarray, " rank"]
    along: Float[np.ndarray, " rank"]

    def __call__(self, s: Float[np.ndarray, " places"] | list[float]) -> Float[np.ndarray, "places rank"]:
        return self.nearest + np.asarray(s)[:, None] * self.along


def shape_far_out(ask: Asked, rank: int, *, distance: float, rng: np.random.Generator) -> Shape:
    """Whether answers grow far out, or have come to rest."""
    ray = rng.standard_normal(rank)
    near, far, twice = ask(distance * np.array([[0.0], [1.0], [2.0]]) * ray)
    grown = np.abs(twice - far).max()
    return "kinks" if grown > 0.1 * np.abs(far - near).max() else "steps"


def sweep(
    ask: Asked, rank: int, shape: Shape, *, distance: float, scale: float, precision: float, rng: np.random.Generator
) -> list[Crossing]:
    """All crossings that are alone on one random line.

    Args:
        ask: The teacher, in the coordinates of the row space.
        rank: How many coordinates there are.
        shape: What a crossing looks like.
        distance: Of the line from the origin, many times the scale.
        scale: Of the inputs.
        precision: Relative error of the answers.
        rng: For the line.
    """
    if rank > 1:
        nearest, along = np.linalg.qr(rng.standard_normal((rank, 2)))[0].T
    else:
        nearest, along = np.zeros(1), np.ones(1)
    line = Line(distance * nearest, along)
    found = located(ask, line, distance=distance, precision=precision)
    if not found:
        return []
    if shape == "kinks":
        return _kinks(ask, line, found, distance)
    return _steps(ask, line, found, scale, precision)


def located(ask: Asked, line: Line, *, distance: float, precision: float) -> list[tuple[float, float]]:
    """Disjoint intervals of a line in each of which something happens, by halving all of them at once."""
    s = distance * np.tan(np.linspace(-_WIDEST, _WIDEST - _ASKEW, _START + 1))
    f = ask(line(s))
    a, b, fa, fb = s[:-1], s[1:], f[:-1], f[1:]
    largest = np.abs(f).max() / np.abs(s).max()  # what answers are sums of, by the length of the question
    done: list[tuple[float, float]] = []
    parents = np.full(len(a), -1)  # index of the interval that each is a half of
    before: list[tuple[float, float]] = []
    while len(a):
        middle = (a + b) / 2
        fm = ask(line(middle))
        size = np.maximum(np.abs(fa), np.abs(fb)).max(axis=1) + largest * (distance + np.abs(middle))
        off = np.abs(fm - (fa + fb) / 2).max(axis=1) > _OFF * precision * size
        # What happened right in the middle of a parent is seen in none of its halves.
        lost = set(range(len(before))) - set(parents[off].tolist())
        done += [before[i] for i in sorted(lost)]
        a, b, fa, fb, middle, fm = a[off], b[off], fa[off], fb[off], middle[off], fm[off]
        short = b - a < _LOCATED * (distance + np.abs(middle))
        done += list(zip(a[short].tolist(), b[short].tolist(), strict=True))
        a, b, fa, fb, middle, fm = a[~short], b[~short], fa[~short], fb[~short], middle[~short], fm[~short]
        before = list(zip(a.tolist(), b.tolist(), strict=True))
        parents = np.tile(np.arange(len(a)), 2)
        a, b = np.concatenate([a, middle]), np.concatenate([middle, b])
        fa, fb = np.concatenate([fa, fm]), np.concatenate([fm, fb])
    return _joined(sorted(done))


def _joined(intervals: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Intervals that touch as one."""
    joined: list[tuple[float, float]] = []
    for a, b in intervals:
        if joined and a <= joined[-1][1] * (1 + 1e-12 * np.sign(joined[-1][1])):
            joined[-1] = (joined[-1][0], max(b, joined[-1][1]))
        else:
            joined.append((a, b))
    return joined


def _kinks(ask: Asked, line: Line, found: list[tuple[float, float]], distance: float) -> list[Crossing]:
    """Neurons from jumps of the gradient between the pieces."""
    rank = len(line.along)
    ends = [found[0][0] - distance, *[end for pair in found for end in pair], found[-1][1] + distance]
    left, right = np.array(ends[0::2]), np.array(ends[1::2])  # of the pieces without a crossing
    middle, gap = (left + right) / 2, right - left
    pieces = [slopes(ask, point, np.eye(rank), _STEP * room) for point, room in zip(line(middle), gap, strict=True)]
    values_there = ask(line(middle))
    crossings = []
    for i, (a, b) in enumerate(found):
        direction, is_alone = _rank_one(pieces[i + 1] - pieces[i])
        if not is_alone:
            continue
        # Both pieces are straight: they meet where the neuron crosses.
        along = [piece.T @ line.along for piece in (pieces[i], pieces[i + 1])]
        jump = along[1] - along[0]
        apart = values_there[i + 1] - values_there[i] - along[1] * middle[i + 1] + along[0] * middle[i]
        place = float(-(apart @ jump) / (jump @ jump))
        place = min(max(place, a), b)
        crossings.append(Crossing(line([place])[0], line.along, direction, float(min(gap[i], gap[i + 1]))))
    return crossings


def _steps(ask: Asked, line: Line, found: list[tuple[float, float]], scale: float, precision: float) -> list[Crossing]:
    """Neurons from the gradient in the middle of each step."""
    rank, crossings = len(line.along), []
    edges = np.array([-np.inf, *[(p[1] + q[0]) / 2 for p, q in itertools.pairwise(found)], np.inf])
    low = np.maximum(edges[:-1], [a - 2 * (b - a) for a, b in found])
    high = np.minimum(edges[1:], [b + 2 * (b - a) for a, b in found])
    room = np.minimum(np.array([a for a, _ in found]) - edges[:-1], edges[1:] - np.array([b for _, b in found]))
    before, after = ask(line(low)), ask(line(high))
    rise = after - before
    left, right = low.copy(), high.copy()
    for _ in range(_HALVINGS):  # half of the rise is where it is steepest
        middle = (left + right) / 2
        is_before = np.sum((ask(line(middle)) - before) * rise, axis=1) < 0.5 * np.sum(rise**2, axis=1)
        left, right = np.where(is_before, middle, left), np.where(is_before, right, middle)
        if (right - left <= precision ** (1 / 3) * scale).all():
            break
    height = np.linalg.norm(rise, axis=1)
    for point, free, high in zip(line((left + right) / 2), room, height, strict=True):
        if high < _STEP_HEIGHT * height.max():
            continue  # the tail of a step
        direction, is_alone = _rank_one(gradient(ask, point, np.eye(rank), 10 * gradient_step(precision, scale)))
        if is_alone:
            crossings.append(Crossing(point, line.along, direction, float(free)))
    return crossings


def _rank_one(matrix: Float[np.ndarray, "rank fan_out"]) -> tuple[Float[np.ndarray, " rank"], bool]:
    """The direction of a matrix of rank one, and whether it is one."""
    vectors, singular, _ = np.linalg.svd(matrix, full_matrices=False)
    alone = singular[0] > 0 and (len(singular) == 1 or singular[1] < _ALONE * singular[0])
    return vectors[:, 0], bool(alone)
