"""A hidden layer whose inputs may be as large as one likes: what sweeps far out show of it.

    sweeps -> cluster -> scales and biases

Neurons that saturate are heard through the layers above (`ecjax.probe.behind`); around neurons that grow, the layers
above are straight far out, so that a profile says all.
"""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..network import Activation
from ..probe import LINE, Crossing, Reach, RowSpace, fit_profile, named, shape_far_out
from ..probe.behind import DEGREES, Slopes, by_rank, profile_behind
from ..probe.differences import gradient, gradient_step, slopes
from ..probe.inverse import growing, inverse
from ..probe.isolate import far
from ..probe.jumps import jumps
from ..probe.lines import kink
from ..probe.stack import Stack, Weights
from .probing import FAR, LOOKED_AT, SWEEPS, Asking, Layered, ProbesFailedError, Swept, directions_of

_MORE = 4  # sweeps above other layers, whose crossings are among many, or on lines that end at walls
_DRAWS = 16  # of questions from which a place is made
_STEEP = 1e-4  # step of a gradient where all others rest, in units of the scale
_ROUNDS = 2  # of profiles, the second nearer to the origin
_WITHIN = 0.9  # of the range of hidden states at which gradients are taken
_GRADIENTS = 6  # for each neuron
_ALIKE = 1.5  # by how much the misfit of a later activation of the catalogue must be smaller to be preferred
_STRAIGHT = 1e-6  # misfit of a profile where nothing else happens
# Distances from the origin, and lengths of a line across a kink, in units of the scale: far out nothing else happens on
# a long line, near the origin a short one is enough.
_CLOSER = ((1e4, 64.0), (1e4, 16.0), (1e3, 4.0), (100.0, 1.0), (10.0, 0.25))
_LOOKS = 3  # at each distance: two kinks may be as near as not to be told from one
_ACROSS = np.array([-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0])
_LOOSER = (1.0, 1e3, 1e6, 1e8)  # precision of answers whose halves are straight: layers below may have errors
_BESIDE = 1e-2  # how far from a kink slopes are taken, in units of the way to the next thing


class _Crossed(NamedTuple):
    """As many neurons as directions, and where they were seen to cross zero.

    Attributes:
        reach: The teacher, and where it may be asked.
        directions: Unit vectors along the incoming weights.
        members: Crossings of each, those with most room first.
    """

    reach: Reach
    directions: Float[np.ndarray, "rank rank"]
    members: list[list[Crossing]]


class Below(NamedTuple):
    """The layers below.

    Attributes:
        stack: None below the first layer.
        reach: The teacher, and where it may be asked, in the coordinates of the first of them.
    """

    stack: Stack
    reach: Reach


class FarOut(NamedTuple):
    """A hidden layer as sweeps found it.

    Attributes:
        weights: In the coordinates of `reach`.
        slopes: What gradients behind it say of the next layer; None if its activation grows.
        layer: Who proposed its neurons.
        reach: In a better basis, perhaps, than the one it was asked in.
    """

    weights: Weights
    slopes: Slopes | None
    layer: Layered
    reach: Reach


def far_out(
    asking: Asking,
    reach: Reach,
    space: RowSpace,
    candidates: list[Activation],
    *,
    below: Below,
    is_exact: bool = False,
) -> FarOut:
    """A layer from sweeps.

    Args:
        asking: Whom is asked.
        reach: Where.
        space: The layer's row space.
        candidates: What its activation may be.
        below: The layers below.
        is_exact: Whether straight layers have to be right to rounding, because several others are asked through them.

    Raises:
        ProbesFailedError: If sweeps do not come to agree on as many neurons as there are directions, or what is found
            has no scales and biases.
    """
    is_above = bool(below.stack)
    shape = shape_far_out(reach, distance=FAR * reach.scale, rng=asking.rng)
    swept, kept = Swept([], []), []
    most = _MORE * SWEEPS if is_above else SWEEPS
    while not kept or kept[-1] != reach.rank:
        if len(kept) == most:
            raise ProbesFailedError(
                f"{most} sweeps far out show {', '.join(map(str, kept))} neurons of hidden layers in {reach.rank} "
                "directions."
            )
        swept = asking.swept(reach, shape, swept, is_above=is_above)
        if len(swept.crossings) < 2 or swept.proposer[-1] < 1:
            kept.append(0)
            continue
        layer = asking.agreed(swept, space)
        kept.append(layer.clustering.width)
    asking.tell("measure", 0, 1)
    with asking.seconds.of("measure"):
        clusters = [layer.clustering.aligned(k).members for k in layer.clustering.kept_clusters]
        members = [sorted((swept.crossings[i] for i in each), key=lambda one: -one.room) for each in clusters]
        crossed = _Crossed(reach, directions_of(layer.clustering), members)
        if is_above and shape == "kinks":
            crossed = _sharpened(crossed)
        weights, found = (_stepped if shape == "steps" else _kinked)(asking, crossed, candidates)
        reach = crossed.reach
        if is_exact and weights.activation is not None and weights.activation.symmetry.homogeneous:
            weights, reach = _by_jumps(asking, reach, weights, below)
    asking.tell("measure", 1, 1)
    return FarOut(weights, found, layer, reach)


def _by_jumps(asking: Asking, reach: Reach, weights: Weights, below: Below) -> tuple[Weights, Reach]:
    """Straight neurons to rounding, and the basis of their own weight vectors.

    Raises:
        ProbesFailedError: If some of them are not where they should be.
    """
    whole = weights._replace(w=weights.w @ reach.basis) if below.stack else weights
    precision = asking.teacher.precision
    found, is_lost = jumps(below.reach, below.stack, whole, precision=precision, rng=asking.rng)
    if is_lost.any() and below.stack:
        raise ProbesFailedError(
            f"{is_lost.sum()} of {len(is_lost)} neurons that sweeps agree on have no kink where they should."
        )
    if below.stack:
        reach = reach.along(np.linalg.qr(found.w.T)[0].T)
        found = found._replace(w=found.w @ reach.basis.T)
    return found, reach


def _sharpened(crossed: _Crossed) -> _Crossed:
    """The same in a better basis: that of the weight vectors, looked at in all inputs where they cross.

    A basis from differences is right to 1e-8, which questions far from all walls multiply by how far they are.
    """
    reach, directions, members = crossed
    weights = np.empty((len(directions), len(reach.low)))
    for i, each in enumerate(members):
        normal, least = directions[i] @ reach.basis, np.inf
        for crossing in each[:_LOOKS]:  # where nothing else is near, the jump is of rank one
            question = crossing.question(reach.basis)
            off = _BESIDE * min(crossing.room, reach.room(question))
            before, after = (
                slopes(reach.teacher, question + side * normal, np.eye(len(normal)), off / 4) for side in (-off, off)
            )
            vectors, singular, _ = np.linalg.svd(after - before, full_matrices=False)
            other = singular[1] / singular[0] if len(singular) > 1 else 0.0
            if other < least:
                least, weights[i] = other, vectors[:, 0] * np.sign(vectors[:, 0] @ normal)
    basis = np.linalg.qr(weights.T)[0].T
    turned = [
        [
            one._replace(place=question @ basis.T, rest=question - question @ basis.T @ basis)
            for one, question in ((one, one.question(reach.basis)) for one in each)
        ]
        for each in members
    ]
    return _Crossed(reach.along(basis), weights @ basis.T, turned)


def _stepped(asking: Asking, crossed: _Crossed, candidates: list[Activation]) -> tuple[Weights, Slopes]:
    """Neurons that saturate, behind other layers.

    Raises:
        ProbesFailedError: If the next layer is as wide as this one, so that gradients have no low rank.
    """
    reach, directions, members = crossed
    rng, line = asking.rng, reach.scale * LINE
    dual = np.linalg.inv(directions).T
    places = [each[0].place for each in members]
    look = lambda i: reach(places[i] + line[:, None] * dual[i])
    bounded = [one for one in candidates if (branch := growing(one)) is not None and np.isfinite(branch.high)]
    if not bounded:
        raise ProbesFailedError("far out the answers have come to rest, which those of the activation said do not.")
    lines = [look(i) for i in range(min(LOOKED_AT, len(places)))]
    misfit = [np.median([profile_behind(one, line, y, reach.scale).misfit for y in lines]) for one in bounded]
    kind = next(one for one, each in zip(bounded, misfit, strict=True) if each <= _ALIKE * min(misfit))
    for degree in DEGREES:
        for _ in range(_ROUNDS):
            fits = [profile_behind(kind, line, look(i), reach.scale, degree) for i in range(len(places))]
            alpha = np.array([fit.alpha for fit in fits])
            beta = np.array([fit.beta for fit in fits]) - alpha * np.sum(directions * places, axis=1)
            places = [_at_rest(kind, i, alpha, beta, dual, rng) for i in range(len(places))]
        # The gradient where all others rest is along the neuron's own weights.
        steep = lambda place: gradient(reach, place, np.eye(reach.rank), _STEEP * reach.scale)
        exact = np.stack([np.linalg.svd(steep(place), full_matrices=False)[0][:, 0] for place in places])
        exact *= np.sign(np.sum(exact * directions, axis=1, keepdims=True))
        beta = beta + alpha * np.sum((directions - exact) * places, axis=1)
        found = _by_rank(asking, reach, kind, exact, alpha, beta)
        if found is not None:
            return Weights(found.alpha[:, None] * exact, found.beta, kind), found
        directions, dual = exact, np.linalg.inv(exact).T
    raise ProbesFailedError(
        f"gradients behind {len(directions)} neurons have no low rank: the next layer seems to have as many."
    )


def _by_rank(
    asking: Asking, reach: Reach, kind: Activation, directions: np.ndarray, alpha: np.ndarray, beta: np.ndarray
) -> Slopes | None:
    """Scales and biases by the rank of gradients at questions whose hidden states are all over their range."""
    branch, dual = growing(kind), np.linalg.inv(directions).T
    assert branch is not None  # those that have none were left out
    n = int(np.ceil(_GRADIENTS * len(alpha) / (asking.teacher.fan_out or 1)))
    share = (1 + _WITHIN * asking.rng.uniform(-1, 1, (n, len(alpha)))) / 2
    z = inverse(kind, branch.low + (branch.high - branch.low) * share)
    t = (z - beta) / alpha
    step = gradient_step(asking.teacher.precision, reach.scale)
    return by_rank(kind, t, np.stack([gradient(reach, each @ dual, dual, step) for each in t]), alpha, beta)


def _at_rest(kind: Activation, i: int, alpha, beta, dual, rng: np.random.Generator) -> np.ndarray:
    """The nearest of several places where neuron i crosses zero and all others rest."""
    sides = far(kind) * rng.choice([-1.0, 1.0], (_DRAWS, len(alpha)))
    sides[:, i] = 0
    places = ((sides - beta) / alpha) @ dual
    return places[np.argmin(np.linalg.norm(places, axis=1))]


def _kinked(asking: Asking, crossed: _Crossed, candidates: list[Activation]) -> tuple[Weights, None]:
    """Neurons that grow, among layers that are straight far out.

    Raises:
        ProbesFailedError: If the answers across most crossings are no profiles.
    """
    reach, directions, members = crossed
    dual = np.linalg.inv(directions).T
    dual /= np.linalg.norm(dual, axis=1, keepdims=True)
    line = reach.scale * LINE
    across = lambda crossing, i: reach._replace(rest=crossing.rest)(crossing.place + line[:, None] * dual[i])
    some = [across(each[0], i) for i, each in enumerate(members[:LOOKED_AT])]
    kind, _ = named(candidates, line, some)
    w, b = np.empty_like(directions), np.empty(len(directions))
    for i, each in enumerate(members):
        fit, crossing = fit_profile(kind, line, across(each[0], i)), each[0]
        for other in each[1:]:
            if fit.misfit < _STRAIGHT:
                break  # nothing else happens on the line
            tried = fit_profile(kind, line, across(other, i))
            fit, crossing = (tried, other) if tried.misfit < fit.misfit else (fit, crossing)
        scale = fit.alpha / (directions[i] @ dual[i])
        scale = np.sign(scale) if kind.symmetry.homogeneous else scale  # their scale is anything
        w[i] = scale * directions[i]
        beta = fit.beta * abs(scale * (directions[i] @ dual[i]) / fit.alpha)
        b[i] = beta - w[i] @ crossing.place
    b = np.array([_nearer(asking, reach, kind, w[i], b[i], dual[i]) for i in range(len(b))])
    return Weights(w, b, kind), None


def _nearer(asking: Asking, reach: Reach, kind: Activation, w: np.ndarray, b: float, along: np.ndarray) -> float:
    """The bias once more, nearer and nearer, where an error of the direction does not move a neuron as far."""
    is_straight, slope = kind.symmetry.homogeneous, float(w @ along)
    for distance, short in _CLOSER:
        questions = reach.questions(_DRAWS, asking.rng, distance=distance * reach.scale)
        z, found = questions @ reach.basis.T @ w + b, []
        for one, other in itertools.product(np.flatnonzero(z > 0), np.flatnonzero(z < 0)):
            on_plane = (z[one] * questions[other] - z[other] * questions[one]) / (z[one] - z[other])
            place = on_plane @ reach.basis.T
            here = reach if reach.is_open else reach.beside(on_plane)
            line = reach.scale * (short * _ACROSS if is_straight else LINE)
            if not here.holds(place + line[[0, -1], None] * along):
                continue
            y = here(place + line[:, None] * along)
            if is_straight:
                tried = (kink(line, y, looser * asking.teacher.precision) for looser in _LOOSER)
                middle = next((one for one in tried if one is not None), None)
            else:
                fit = fit_profile(kind, line, y, (slope, 0.0))
                middle = -fit.beta / fit.alpha if fit.misfit < _STRAIGHT else None
            if middle is not None:
                found.append(-float(w @ (place + middle * along)))
            if len(found) == _LOOKS:
                break
        b = float(np.median(found)) if found else b
    return b
