"""A layer of straight activations from jumps of the gradient, be there straight layers above or not.

Beside its kink, as long as nothing else bends, the answers are straight on both sides, and differ by

    f_after(u) - f_before(u) = a (w u + b) (s'(+) - s'(-)),

with some a that depends on what the layers above let through there. So weights and bias are the gradient and the value
of that difference, up to a factor: a matrix of rank one, exact but for rounding, whatever step there is room for. Where
a neuron's kink is has to be known roughly, and so have those of its own layer; those of deeper layers are seen when
answers are not straight.
"""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .reach import Reach
from .stack import Weights

_DRAWS = 64  # questions, from pairs of which places on a kink are made where some questions can't be asked
_FAR = 4.0  # of them from the origin, in units of the scale
_NEAREST, _FARTHEST = 0.5, 1.5  # of places from the other kinks of their layer, in units of the scale
_SHARES = (0.3, 0.1, 0.03, 0.01)  # of the way to the next of these; those of deeper layers may be nearer
_PLACES, _LOOKS = 12, 2  # places that are tried, and those that are used: where answers are straight farthest
_STEP = 0.25  # of gradients, in units of how far answers are straight
_CHECKS = 4  # directions along which answers have to be straight
_ROUNDINGS = 100.0  # of a second difference that is none
# Of the precision, where nothing is straight to it: layers below have errors.
_LOOSER = (1.0, 1e2, 1e4)
_ALONE = 1e-6  # second singular value beside the first of a jump that is one neuron's ...
_UNSURE = 1e6  # ... or precisions, where that is more
_HEARD = 1e5  # precisions, beside the median of all jumps: what is less, errors of the layers below may have made


_Place = tuple[Float[np.ndarray, " fan_in"], float]  # a question, and how far the next thing known is


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


class Jumps(NamedTuple):
    """A layer, measured.

    Attributes:
        weights: Of all its neurons.
        is_faint: Whose jumps errors of the layers below may have made.
    """

    weights: Weights
    is_faint: Bool[np.ndarray, " width"]


def jumps(reach: Reach, layer: Weights, *, precision: float, rng: np.random.Generator) -> Jumps:
    """The same layer with weight vectors and biases to rounding, each of the norm it had.

    Args:
        reach: Whom to ask, in the coordinates of the layer.
        layer: Nearly right.
        precision: Relative error of the answers.
        rng: For the places.

    Returns:
        The layer, in which neurons that are nowhere alone stay as they were.
    """
    size = np.linalg.norm(layer.w, axis=1)
    unit, offset = layer.w / size[:, None], layer.b / size
    w, b = unit.copy(), offset.copy()
    strength, sure = np.zeros(len(unit)), np.zeros(len(unit))
    for i in range(len(unit)):
        for looser in _LOOSER:
            looks = _looks(reach, _places(reach, unit, offset, i, rng), unit[i], looser * precision, rng)
            if looks:
                break
        else:
            continue
        sure[i] = looser * precision
        left, singular, right = np.linalg.svd(np.concatenate([look.gradient for look in looks], axis=1))
        strength[i] = singular[0] / np.sqrt(len(looks))
        sign = np.sign(left[:, 0] @ unit[i])
        w[i] = sign * left[:, 0]
        outgoing = np.split(sign * singular[0] * right[0], len(looks))  # of each look
        b[i] = np.median(
            [look.apart @ a / (a @ a) - w[i] @ look.place for look, a in zip(looks, outgoing, strict=True)]
        )
    is_faint = strength < _HEARD * sure * np.median(strength)
    return Jumps(layer._replace(w=size[:, None] * w, b=size * b), is_faint)


def _looks(
    reach: Reach, places: list[_Place], normal: np.ndarray, precision: float, rng: np.random.Generator
) -> list[_Look]:
    """At the places beside which answers are straight farthest."""
    found = []
    for question, room in places:
        here, place = reach.beside(question), question @ reach.basis.T
        radius = _straight_within(here, place, normal, room, precision, rng)
        if radius is not None:
            found.append((radius, here, place))
    looks: list[_Look] = []
    for radius, here, place in sorted(found, key=lambda each: -each[0]):
        look = _look(here, place, normal, radius, precision)
        looks += [] if look is None else [look]
        if len(looks) == _LOOKS:
            break
    return looks


def _places(reach: Reach, unit: np.ndarray, offset: np.ndarray, i: int, rng: np.random.Generator) -> list[_Place]:
    """Questions on the kink of neuron i, and how far they are from all other kinks of the layer and all walls."""
    if reach.is_open and len(unit) == reach.rank:
        sides = rng.choice([-1.0, 1.0], (_PLACES, len(unit)))
        z = reach.scale * sides * rng.uniform(_NEAREST, _FARTHEST, sides.shape)
        z[:, i] = 0
        return [(place @ reach.basis, _NEAREST * reach.scale) for place in np.linalg.solve(unit, (z - offset).T).T]
    questions = reach.questions(_DRAWS, rng, distance=_FAR * reach.scale)
    z = questions @ reach.basis.T @ unit[i] + offset[i]
    found = []
    for one, other in itertools.product(np.flatnonzero(z > 0), np.flatnonzero(z < 0)):
        question = (z[one] * questions[other] - z[other] * questions[one]) / (z[one] - z[other])
        apart = np.abs(np.delete(unit, i, axis=0) @ (reach.basis @ question) + np.delete(offset, i))
        found.append((question, min(float(apart.min(initial=np.inf)), reach.room(question))))
    return sorted(found, key=lambda each: -each[1])[:_PLACES]


def _straight_within(
    reach: Reach, place: np.ndarray, normal: np.ndarray, room: float, precision: float, rng: np.random.Generator
) -> float | None:
    """How far from a place on a kink answers bend in no other, or None if they do nearby."""
    for share in _SHARES:
        radius = share * room
        along = rng.standard_normal((_CHECKS, len(place)))
        along *= radius / 2 / np.linalg.norm(along, axis=1, keepdims=True)
        centres = [place + side * radius * normal for side in (-1, 1)]
        y = reach(np.concatenate([np.concatenate([c[None], c + along, c - along]) for c in centres]))
        halves = [(half[0], half[1 : _CHECKS + 1], half[_CHECKS + 1 :]) for half in np.split(y, 2)]
        bent = max(np.abs(ahead + behind - 2 * middle).max() for middle, ahead, behind in halves)
        before, after = (ahead - behind for _, ahead, behind in halves)
        other = np.linalg.svd(after - before, compute_uv=False)[1:2].max(initial=0.0)  # of a kink between the sides
        if max(bent, other) <= _rounding(y, precision):
            return radius
    return None


def _look(reach: Reach, place: np.ndarray, normal: np.ndarray, radius: float, precision: float) -> _Look | None:
    """What the two straight pieces beside a kink differ by, or None if something else bends there."""
    n, step = len(place), _STEP * radius
    centres = [place + side * radius * normal for side in (-1, 1)]
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
    is_alone = len(singular) == 1 or singular[1] < max(_ALONE, _UNSURE * precision) * singular[0]
    return _Look(place, gradient, after - before) if is_alone else None


def _rounding(y: np.ndarray, precision: float) -> float:
    """A second difference of answers, up to which it may be none."""
    return _ROUNDINGS * precision * float(np.abs(y).max())
