"""The profile of one neuron: the answers along a line on which no other neuron moves.

With V the inverse of the incoming directions D, the answers at p + t v_i are a_i s(alpha t + beta) + const: the
activation itself can be looked at. It is named from the catalogue; its scale alpha is the norm of the incoming weight
vector. No other neuron adds a slope, so the profile also says which sign a neuron has where the activation leaves that
to a linear map (softplus, gelu, relu).

Activations that are one function but for scales and constants can't be told apart by anybody: tanh and sigmoid, erf and
the normal distribution's, sin and cos. The first of the catalogue is named.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from ..network import Activation
from .curves import slope_values, values

# Distances from the middle of the line, in units of the inputs' scale over the norm of v: from where a strong neuron is
# still straight to where a weak one has come to rest.
_REACH = 2.0 ** np.arange(-5, 7, 0.75)
LINE = np.concatenate([-_REACH[::-1], [0.0], _REACH])
_PIECES = (1.0, 4.0, 16.0)  # of the line, in units of its median distance
_SCALES = 2.0 ** np.arange(-5, 6, 0.5)  # of the first guess, in units of one over that distance
_TO_ROUNDING = dict.fromkeys(("xtol", "ftol", "gtol"), 1e-15)
_EVALUATIONS = 50  # of a fit; those that are right need ten
_NOTHING = 1e-9  # share of a curve that is left when its slope is gone, below which it is rounding
_HOPEFUL, _ROUGH = 10.0, 0.1  # misfit beside the best in the tables, and as such, up to which an activation is fitted
_ROUNDING = 1e-12  # misfits below are alike whatever their ratio
_ALIKE = 1.5  # by how much the misfit of a later activation of the catalogue must be smaller to be preferred


class Profile(NamedTuple):
    """What fits the answers along a line: a s(alpha t + beta) + c.

    Attributes:
        alpha: Scale.
        beta: Pre-activation in the middle of the line.
        a: Outgoing weights.
        c: What the others add.
        misfit: Root mean square of what is left, in units of the deviation of the answers.
    """

    alpha: float
    beta: float
    a: Float[np.ndarray, " fan_out"]
    c: Float[np.ndarray, " fan_out"]
    misfit: float


def fit_profile(
    activation: Activation,
    t: Float[np.ndarray, " line"],
    y: Float[np.ndarray, "line fan_out"],
    start: tuple[float, float] | None = None,
    *,
    sloped: bool = False,
) -> Profile:
    """The best profile of one activation.

    Args:
        activation: Which.
        t: Places on the line.
        y: Answers there.
        start: alpha and beta, if they are known roughly; otherwise a table of both is looked through.
        sloped: Whether others may add a slope after all, because the line is not quite right.
    """
    if start is None:
        # A short piece first: over a long one, the table's steps lose count of the periods of sin and cos.
        for reach in _PIECES:
            inside = np.abs(t) <= reach * np.median(np.abs(t))
            begin = start or _looked_up(activation, t[inside], y[inside], sloped)
            part = fit_profile(activation, t[inside], y[inside], begin, sloped=sloped)
            start = (part.alpha, part.beta)
        wide = fit_profile(activation, t, y, start, sloped=sloped)
        # A step may lie outside all short pieces.
        other = fit_profile(activation, t, y, _looked_up(activation, t, y, sloped), sloped=sloped)
        return min(wide, other, key=lambda profile: profile.misfit)
    rest = _without(t, y.T, sloped).T
    size, direction = _main(rest)
    signal = (y - y.mean(axis=0)) @ direction / size
    alpha, beta = start

    def scaled(theta):
        """alpha and beta; of homogeneous activations the scale is that of the outgoing weights, and stays."""
        return (alpha, theta[0]) if activation.symmetry.homogeneous else theta

    def basis(theta):
        slope, shift = scaled(theta)
        shape = np.nan_to_num(values(activation, slope * t + shift))  # who runs away fits badly
        return np.stack([shape, np.ones_like(t), *([t] if sloped else [])], axis=1)

    def residuals(theta):
        columns = basis(theta)
        return columns @ np.linalg.lstsq(columns, signal, rcond=None)[0] - signal

    def jacobian(theta):
        columns, (slope, shift) = basis(theta), scaled(theta)
        weights = np.linalg.lstsq(columns, signal, rcond=None)[0]
        along = weights[0] * np.nan_to_num(slope_values(activation, slope * t + shift))
        moved = np.stack([along * t, along], axis=1)[:, -len(theta) :]
        return moved - columns @ np.linalg.lstsq(columns, moved, rcond=None)[0]  # Kaufman's, of variable projection

    begin = [beta] if activation.symmetry.homogeneous else [alpha, beta]
    options: dict[str, Any] = {"jac": jacobian, "max_nfev": _EVALUATIONS, **_TO_ROUNDING}
    found = least_squares(residuals, begin, method="lm", **options)
    alpha, beta = scaled(found.x)
    weights, *_ = np.linalg.lstsq(basis(found.x), y, rcond=None)
    left = basis(found.x) @ weights - y
    misfit = np.sqrt(np.sum(left**2) / max(np.sum(rest**2), np.finfo(float).tiny))
    return Profile(float(alpha), float(beta), weights[0], weights[1], float(misfit))


def crossing_places(
    activation: Activation,
    profile: Profile,
    t: Float[np.ndarray, " line"],
    lines: Sequence[Float[np.ndarray, "line fan_out"]],
    *,
    sloped: bool = False,
) -> tuple[Float[np.ndarray, " lines"], Float[np.ndarray, " lines"]]:
    """Where on each of several lines a neuron is that crosses them all, by the profile of one.

    Scale and outgoing weights are known; the constant that the others add is not.

    Args:
        activation: Of the neuron.
        profile: Along its incoming weights, which all these lines follow, in the same sense.
        t: Places on the lines, near the neuron's.
        lines: Answers there.
        sloped: Whether others add a slope.

    Returns:
        How far along each line the pre-activation is 0, and the misfit there, beside the deviation of the profile.
    """
    rest = lambda of_line: _without(t, of_line.T, sloped).T
    shape = lambda place: np.outer(values(activation, profile.alpha * (t - place[0])), profile.a)
    slope = lambda place: np.outer(slope_values(activation, profile.alpha * (t - place[0])), profile.a)
    options: dict[str, Any] = {
        "jac": lambda place, _: -profile.alpha * rest(slope(place)).reshape(-1, 1),
        "max_nfev": _EVALUATIONS,
        **_TO_ROUNDING,
    }
    residuals = lambda place, y: rest(shape(place) - y).reshape(-1)
    found = [least_squares(residuals, [0.0], args=(y,), method="lm", **options) for y in lines]
    size = float(np.linalg.norm(rest(shape([0.0])))) or 1.0
    return np.array([one.x[0] for one in found]), np.array([np.linalg.norm(one.fun) / size for one in found])


def _main(y: Float[np.ndarray, "line fan_out"]) -> tuple[float, Float[np.ndarray, " fan_out"]]:
    """Size and direction of what varies most."""
    _, singular, directions = np.linalg.svd(y, full_matrices=False)
    return float(singular[0]) or 1.0, directions[0]


def _looked_up(activation: Activation, t: np.ndarray, y: np.ndarray, sloped: bool) -> tuple[float, float]:
    """The scale and shift of a table that fit best."""
    y = _without(t, y.T, sloped).T
    signal = y @ _main(y)[1]
    alpha, beta, shape = _table(activation, tuple(t.tolist()), sloped)
    best = int(np.argmax(np.abs(shape @ signal)))
    return float(alpha[best]), float(beta[best])


@lru_cache(maxsize=256)  # the lines of all neurons have the same places
def _table(
    activation: Activation, places: tuple[float, ...], sloped: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales, shifts, and the activation along the line with each of them, what others may add left out, of norm 1."""
    t = np.array(places)
    alpha, centre = (each.ravel() for each in np.meshgrid(_SCALES / np.median(np.abs(t)), t, indexing="ij"))
    if not (activation.symmetry.is_sign_free and activation.symmetry.linear == 0):
        alpha, centre = np.concatenate([alpha, -alpha]), np.concatenate([centre, centre])
    shape = values(activation, alpha[:, None] * (t - centre[:, None]))
    whole = np.linalg.norm(shape, axis=1, keepdims=True)
    shape = _without(t, shape, sloped)
    size = np.linalg.norm(shape, axis=1, keepdims=True)
    return alpha, -alpha * centre, shape / np.where(size > _NOTHING * whole, size, np.inf)


def _without(t: np.ndarray, curves: Float[np.ndarray, "curves line"], sloped: bool) -> Float[np.ndarray, "curves line"]:
    """Curves without their mean, and without their slope if that may be others'."""
    q, _ = np.linalg.qr(np.stack([np.ones_like(t), *([t] if sloped else [])], axis=1))
    return curves - (curves @ q) @ q.T


def named(
    candidates: Sequence[Activation],
    t: Float[np.ndarray, " line"],
    lines: Sequence[Float[np.ndarray, "line fan_out"]],
    *,
    sloped: bool = False,
) -> tuple[Activation, dict[str, float]]:
    """The activation that fits several neurons best, and the median misfit of each candidate.

    Args:
        candidates: In order of preference among those that are the same function.
        t: Places on the lines.
        lines: Answers along the line of each neuron.
        sloped: Whether others may add a slope; then relu, leaky relu and |x| are one, and the first is named.
    """
    tables = {one: float(np.median([_table_misfit(one, t, y, sloped) for y in lines])) for one in candidates}
    hopeful = [one for one in candidates if tables[one] <= max(_HOPEFUL * min(tables.values()), _ROUGH)]
    misfit = {
        one.name: float(np.median([fit_profile(one, t, y, sloped=sloped).misfit for y in lines])) for one in hopeful
    }
    best = min(misfit.values())
    return next(one for one in hopeful if misfit[one.name] <= max(_ALIKE * best, _ROUNDING)), misfit


def _table_misfit(activation: Activation, t: np.ndarray, y: np.ndarray, sloped: bool) -> float:
    """Of the best entry of the table, over the short piece that suits it best."""
    misfits = []
    for reach in (*_PIECES, np.inf):
        inside = np.abs(t) <= reach * np.median(np.abs(t))
        rest = _without(t[inside], y[inside].T, sloped).T
        signal = rest @ _main(rest)[1]
        shape = _table(activation, tuple(t[inside].tolist()), sloped)[2]
        misfits.append(1 - np.abs(shape @ signal).max() / (np.linalg.norm(signal) or 1.0))
    return float(np.median(misfits))
