"""A layer of straight activations from jumps of the gradient, whatever straight layers stand above and below.

Beside the kink of neuron i, as long as nothing else bends, the answers are straight on both sides. With h the inputs of
the layer there, J their derivatives by the question u, and some a that depends on what the layers above let through,

    f_after(u) - f_before(u) = a (w_i h(u) + b_i) (s'(+) - s'(-)).

So J^T w_i is along the one direction g of the jump of the gradient, exact but for rounding, whatever step there is room
for, and w_i is what all of its places agree on: (1 - g g^T) J^T w_i = 0. The value of the difference says the bias.

Where a neuron's kink is has to be known roughly, and so have those of its own layer; those of deeper layers are seen
when answers are not straight. Layers below have to be known, and are computed, never inverted: who sets hidden states
at will goes backwards, and under leaky relu each layer then multiplies errors by some hundred. Few places say all of
w_i, as at each of them other neurons below are let through. Of 784-128-80-40-32-10 leaky relu, layers were right to
4e-9, 1e-7 and 7e-6 by hidden states that were set, and are to 3e-10, 3e-9 and 9e-8 by questions.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .curves import slope_values, values
from .inverse import growing, inverse
from .reach import Reach
from .stack import Stack, Weights, states

_NEAREST, _FARTHEST = 0.5, 1.5  # of places from the other kinks of a first layer, in units of the scale
_FIRST_PLACES, _FIRST_LOOKS = 12, 2  # of each of its neurons
# Of others: random questions, how far out, from each of which the nearest place on the kink is sought in steps of
# Newton's method that go too far, as slopes change on the way; halvings of the last step; places that are tried at
# once, and all that are used.
_DRAWS, _DISTANCES = 96, (1.0, 4.0)
_STEPS, _TOO_FAR, _HALVINGS = 30, 1.1, 50
_PLACES, _LOOKS = 24, 6
_SHARES = (0.3, 0.1, 0.03, 0.01)  # of the way to the next kink known; those of deeper layers may be nearer
_STEP = 0.25  # of gradients, in units of how far answers are straight
_CHECKS = 4  # directions along which answers have to be straight
_ROUNDINGS = 100.0  # of a second difference that is none
_ALONE = 1e-6  # second singular value beside the first of a jump that is one neuron's ...
_UNSURE = 1e6  # ... or precisions, where that is more
_TINY = float(np.finfo(float).tiny)


class _Place(NamedTuple):
    """A point on the kink of a neuron, a unit vector across, and how far the next kink known is."""

    point: Float[np.ndarray, " rank"]
    normal: Float[np.ndarray, " rank"]
    room: float


class _Look(NamedTuple):
    """The jump beside one place on a kink.

    Attributes:
        place: Where.
        gradient: What the gradients on both sides differ by.
        apart: What the straight pieces differ by at the place itself.
    """

    place: Float[np.ndarray, " rank"]
    gradient: Float[np.ndarray, "rank fan_out"]
    apart: Float[np.ndarray, " fan_out"]


class _Inside(NamedTuple):
    """The layers below and the layer itself at some points.

    Attributes:
        z: Pre-activations of each layer, [points, width].
        by_u: Their derivatives by the point, [points, width, rank].
        h: Inputs of the last of them.
        h_by_u: The derivatives of these.
    """

    z: list[np.ndarray]
    by_u: list[np.ndarray]
    h: Float[np.ndarray, "points fan_in"]
    h_by_u: Float[np.ndarray, "points fan_in rank"]


class Jumps(NamedTuple):
    """A layer, measured.

    Attributes:
        weights: Of all its neurons.
        is_lost: Who has no kink where it should be, or none that is alone.
    """

    weights: Weights
    is_lost: Bool[np.ndarray, " width"]


def jumps(reach: Reach, below: Stack, layer: Weights, *, precision: float, rng: np.random.Generator) -> Jumps:
    """The same layer with weight vectors and biases to rounding, each of the norm it had.

    Args:
        reach: Whom to ask, in the coordinates of the first layer; no question is forbidden.
        below: All layers below, first to last, the first in these coordinates; none below the first layer.
        layer: Nearly right, in the hidden states below it, or the coordinates.
        precision: Relative error of the answers.
        rng: For the questions.

    Returns:
        The layer, in which neurons that are lost stay as they were.
    """
    w, b, is_lost = layer.w.copy(), layer.b.copy(), np.ones(len(layer.b), bool)
    most = _LOOKS if below else _FIRST_LOOKS
    for i in range(len(b)):
        places = (_nearest if below else _apart)(reach, below, layer, i, rng)
        looks: list[_Look] = []
        while places and len(looks) < most:
            looks += _looks(reach, places[:_PLACES], precision, rng, most=most - len(looks))
            places = places[_PLACES:]
        if looks:
            w[i], b[i] = _agreed(looks, below, layer, i)
            is_lost[i] = False
    return Jumps(layer._replace(w=w, b=b), is_lost)


def _states(below: Stack, layer: Weights, u: Float[np.ndarray, "points rank"]) -> list[np.ndarray]:
    """Pre-activations of all these layers."""
    stack = [*below, layer]
    return states(stack, u @ stack[0].w.T + stack[0].b)


def _inside(below: Stack, layer: Weights, u: Float[np.ndarray, "points rank"]) -> _Inside:
    stack, z = [*below, layer], _states(below, layer, u)
    h, h_by_u, by_u = u, np.broadcast_to(np.eye(u.shape[1]), (len(u), u.shape[1], u.shape[1])), []
    for one, here in zip(stack, z, strict=True):
        by_u.append(one.w @ h_by_u)
        if one is not layer:
            assert one.activation is not None
            h, h_by_u = values(one.activation, here), slope_values(one.activation, here)[:, :, None] * by_u[-1]
    return _Inside(z, by_u, h, h_by_u)


def _apart(reach: Reach, below: Stack, layer: Weights, i: int, rng: np.random.Generator) -> list[_Place]:
    """Points on the kink of neuron i of the first layer, far from all others."""
    size = np.linalg.norm(layer.w, axis=1)
    z = reach.scale * rng.choice([-1.0, 1.0], (_FIRST_PLACES, len(size)))
    z *= rng.uniform(_NEAREST, _FARTHEST, z.shape)
    z[:, i] = 0
    points = np.linalg.solve(layer.w, (z * size - layer.b).T).T
    return [_Place(point, layer.w[i] / size[i], _NEAREST * reach.scale) for point in points]


def _nearest(reach: Reach, below: Stack, layer: Weights, i: int, rng: np.random.Generator) -> list[_Place]:
    """Points on the kink of neuron i near random ones, those first that are farthest from all other kinks."""
    u = np.concatenate([far * reach.points(_DRAWS // len(_DISTANCES), rng) for far in _DISTANCES])
    one, other = _across(below, layer, i, u)
    if not len(one):
        one, other = _across(below, layer, i, _far_places(reach, below, layer, i, rng))
    is_on = lambda u: _states(below, layer, u)[-1][:, i] > 0
    begun = is_on(one)
    for _ in range(_HALVINGS):
        middle = (one + other) / 2
        is_same = (is_on(middle) == begun)[:, None]
        one, other = np.where(is_same, middle, one), np.where(is_same, other, middle)
    points = (one + other) / 2
    here = _inside(below, layer, points)
    away = [
        np.abs(z) / np.maximum(np.linalg.norm(by_u, axis=2), _TINY) for z, by_u in zip(here.z, here.by_u, strict=True)
    ]
    away[-1][:, i] = np.inf
    room, normal = np.concatenate(away, axis=1).min(axis=1), here.by_u[-1][:, i]
    length = np.linalg.norm(normal, axis=1)
    order = [k for k in np.argsort(-room) if length[k] > 0]
    return [_Place(points[k], normal[k] / length[k], float(room[k])) for k in order]


def _far_places(
    reach: Reach, below: Stack, layer: Weights, i: int, rng: np.random.Generator
) -> Float[np.ndarray, "points rank"]:
    """Points about where neuron i crosses zero, by hidden states that are set; none where these are never negative."""
    branches = [growing(one.activation) for one in below if one.activation is not None]
    if any(branch is None or np.isfinite(branch.low) for branch in branches):
        return np.zeros((0, reach.rank))
    h = reach.scale * rng.standard_normal((_DRAWS, layer.w.shape[1]))
    h -= np.outer(h @ layer.w[i] + layer.b[i], layer.w[i] / (layer.w[i] @ layer.w[i]))
    for one in reversed(below):
        assert one.activation is not None
        h = (inverse(one.activation, h) - one.b) @ np.linalg.pinv(one.w).T
    return h


def _across(below: Stack, layer: Weights, i: int, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of points between which neuron i crosses zero, the steepest way from these.

    So are seen those, too, that are on, or off, at all of them.
    """
    pairs = [(u[:0], u[:0])]
    here = _inside(below, layer, u)
    z, slope = here.z[-1][:, i], here.by_u[-1][:, i]
    for _ in range(_STEPS):
        after = u - (_TOO_FAR * z / np.maximum(np.sum(slope**2, axis=1), _TINY))[:, None] * slope
        there = _inside(below, layer, after)
        is_across = (there.z[-1][:, i] > 0) != (z > 0)
        pairs.append((u[is_across], after[is_across]))
        u, z, slope = after[~is_across], there.z[-1][~is_across, i], there.by_u[-1][~is_across, i]
    one, other = zip(*pairs, strict=True)
    return np.concatenate(one), np.concatenate(other)


def _looks(reach: Reach, places: list[_Place], precision: float, rng: np.random.Generator, *, most: int) -> list[_Look]:
    """What a kink looks like at those of the places beside which answers are straight farthest."""
    found = [(_straight_within(reach, place, precision, rng), place) for place in places]
    straight = [(radius, place) for radius, place in found if radius is not None]
    looks: list[_Look] = []
    for radius, place in sorted(straight, key=lambda each: -each[0]):
        look = _look(reach, place, radius, precision)
        looks += [] if look is None else [look]
        if len(looks) == most:
            break
    return looks


def _straight_within(reach: Reach, place: _Place, precision: float, rng: np.random.Generator) -> float | None:
    """How far from a place on a kink answers bend in no other, or None if they do nearby."""
    point, normal, room = place
    for share in _SHARES:
        radius = share * room
        along = rng.standard_normal((_CHECKS, len(point)))
        along *= radius / 2 / np.linalg.norm(along, axis=1, keepdims=True)
        centres = [point + side * radius * normal for side in (-1, 1)]
        y = reach(np.concatenate([np.concatenate([c[None], c + along, c - along]) for c in centres]))
        halves = [(half[0], half[1 : _CHECKS + 1], half[_CHECKS + 1 :]) for half in np.split(y, 2)]
        bent = max(np.abs(ahead + behind - 2 * middle).max() for middle, ahead, behind in halves)
        before, after = (ahead - behind for _, ahead, behind in halves)
        other = np.linalg.svd(after - before, compute_uv=False)[1:2].max(initial=0.0)  # of a kink between the sides
        if max(bent, other) <= _rounding(y, precision):
            return radius
    return None


def _look(reach: Reach, place: _Place, radius: float, precision: float) -> _Look | None:
    """What the two straight pieces beside a kink differ by, or None if something else bends there, or nothing does."""
    point, normal, _ = place
    n, step = len(point), _STEP * radius
    centres = [point + side * radius * normal for side in (-1, 1)]
    y = reach(np.concatenate([np.concatenate([c[None], c + step * np.eye(n), c - step * np.eye(n)]) for c in centres]))
    halves = [(half[0], half[1 : n + 1], half[n + 1 :]) for half in np.split(y, 2)]
    if max(np.abs(ahead + behind - 2 * middle).max() for middle, ahead, behind in halves) > _rounding(y, precision):
        return None
    slopes = [(ahead - behind) / (2 * step) for _, ahead, behind in halves]
    before, after = (
        middle - side * radius * (normal @ slope)
        for (middle, _, _), slope, side in zip(halves, slopes, (-1, 1), strict=True)
    )
    gradient = slopes[1] - slopes[0]
    singular = np.linalg.svd(gradient, compute_uv=False)
    is_heard = singular[0] * step > _rounding(y, precision)
    is_alone = len(singular) == 1 or singular[1] < max(_ALONE, _UNSURE * precision) * singular[0]
    return _Look(point, gradient, after - before) if is_heard and is_alone else None


def _agreed(looks: list[_Look], below: Stack, layer: Weights, i: int) -> tuple[np.ndarray, float]:
    """Weights and bias of neuron i from its jumps."""
    here, equations, outgoing = _inside(below, layer, np.stack([look.place for look in looks])), [], []
    for look, h_by_u in zip(looks, here.h_by_u, strict=True):
        left, singular, right = np.linalg.svd(look.gradient, full_matrices=False)
        g = left[:, 0]
        equations.append(h_by_u.T - np.outer(g, h_by_u @ g))
        outgoing.append((h_by_u @ g, singular[0] * right[0]))
    w = np.linalg.svd(np.concatenate(equations))[2][-1]
    w *= np.linalg.norm(layer.w[i]) * np.sign(w @ layer.w[i])
    b = []
    for look, h, (along, jump) in zip(looks, here.h, outgoing, strict=True):
        a = jump / (along @ w)
        b.append(look.apart @ a / (a @ a) - w @ h)
    return w, float(np.median(b))


def _rounding(y: np.ndarray, precision: float) -> float:
    """A second difference of answers, up to which it may be none."""
    return _ROUNDINGS * precision * float(np.abs(y).max())
