"""What vouches for a cluster: how its members point, how far they spread."""

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .embedding import Points


class Alignment(eqx.Module):
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


def median_angle(x: Float[np.ndarray, "members coordinates"], dead: np.ndarray, *, sign_free: bool = False) -> float:
    """Median angle between two members, in radians.

    A dead member has no direction; its angles count as pi, so that they fail any threshold. nan for a lone member.
    """
    if len(x) < 2:
        return float("nan")
    norm = np.linalg.norm(x, axis=1)
    unit = x / np.where(norm > 0, norm, 1.0)[:, None]
    i, j = np.triu_indices(len(x), 1)
    # 2 atan2(|u - v|, |u + v|) is accurate for small angles, where the arc cosine loses half of the digits.
    angle = 2 * np.arctan2(np.linalg.norm(unit[i] - unit[j], axis=1), np.linalg.norm(unit[i] + unit[j], axis=1))
    if sign_free:
        angle = np.minimum(angle, np.pi - angle)
    return float(np.median(np.where(dead[i] | dead[j], np.pi, angle)))


def spread(x: Float[np.ndarray, "members coordinates"]) -> float:
    """Root mean square distance of the aligned members from their mean."""
    return float(np.sqrt(np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1))))
