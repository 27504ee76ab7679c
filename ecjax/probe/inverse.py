"""From hidden states back to pre-activations, where an activation grows all the way."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..network import Activation
from .curves import slope_values, values

_WIDEST = 60.0  # pre-activations that are looked at
_PLACES = 4001
_STEPS = 100  # of Newton at most; from the table three are enough
_BEGINS = 5.0  # pre-activation from which an activation has to grow
_RESTS = 1e-6  # slope at the end of what is looked at, below which it has come to rest


class Branch(NamedTuple):
    """The part of an activation on which it grows, up to the largest pre-activation.

    Attributes:
        low: The lowest value there, -inf if there is none.
        high: The highest.
        z: Pre-activations.
        h: The activation there, increasing.
    """

    low: float
    high: float
    z: Float[np.ndarray, " places"]
    h: Float[np.ndarray, " places"]


@lru_cache(maxsize=64)
def growing(activation: Activation) -> Branch | None:
    """Where the activation can be inverted, or None if it does not grow towards large pre-activations."""
    z = np.linspace(-_WIDEST, _WIDEST, _PLACES)
    h, slope = values(activation, z), slope_values(activation, z)
    grows = slope > 0
    rests = slope[-1] < _RESTS
    last = int(np.flatnonzero(grows)[-1]) if grows.any() else -1
    if last < _PLACES // 2 or (not rests and last < _PLACES - 1):
        return None
    falls = np.flatnonzero(~grows[: last + 1])
    first = int(falls[-1]) + 1 if len(falls) else 0
    if z[first] > _BEGINS:
        return None  # sin and cos grow again and again
    h, z = h[first : last + 1], z[first : last + 1]
    distinct = np.concatenate([[True], np.diff(h) > 0])
    ends = slope[first] < _RESTS or first > 0
    return Branch(float(h[0]) if ends else -np.inf, float(h[-1]) if rests else np.inf, z[distinct], h[distinct])


def inverse(activation: Activation, h: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Pre-activations z with s(z) = h, by Newton's method from a table.

    Args:
        activation: One that grows.
        h: Values within the branch, walls excluded.
    """
    branch = growing(activation)
    assert branch is not None
    z = np.interp(h, branch.h, branch.z)
    z = z + np.maximum(h - branch.h[-1], 0) / slope_values(activation, np.array(branch.z[-1]))
    z = z + np.minimum(h - branch.h[0], 0) / slope_values(activation, np.array(branch.z[0]))
    least = np.inf
    for _ in range(_STEPS):
        step = (values(activation, z) - h) / slope_values(activation, z)
        size = float(np.abs(step / (1 + np.abs(z))).max(initial=0))
        if not size < least:
            break  # as small as rounding lets it become
        z, least = z - step, size
        if size < np.finfo(float).eps:
            break
    return z
