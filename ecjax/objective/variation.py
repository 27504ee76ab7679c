"""Whether inputs vary: the one answer, to rounding, for everybody who asks.

Weights along a direction in which the inputs of a layer never vary can't be told from its bias. Columns are looked at
first, each against its own size, then directions with every column in units of its own spread, so that the answer does
not depend on the units of the inputs.

(The cluster phase measures neurons by the second moment of the inputs alone, in which small variations drown in the
rounding of large ones; what it leaves out is documented in `ecjax.cluster.metric`.)
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float

# A number is rounded once when it is written, and again by what made it: four roundings of its size bound both.
_ROUNDINGS = 4


class Variation(NamedTuple):
    """How the inputs of a layer vary over the queries, on the host in float64."""

    mean: Float[np.ndarray, " inputs"]
    spread: Float[np.ndarray, " inputs"]  # standard deviation of every column; 1 where it is constant
    constant: Bool[np.ndarray, " inputs"]
    unseen: Float[np.ndarray, "inputs unseen"]  # orthonormal directions in which the inputs do not vary

    @property
    def rank(self) -> int:
        """How many independent directions the inputs vary in."""
        return self.unseen.shape[0] - self.unseen.shape[1]


def variation(x: Float[Array, "samples inputs"] | Float[np.ndarray, "samples inputs"]) -> Variation:
    """How these inputs vary; their dtype says what rounding may do to them."""
    eps, constant = float(np.finfo(x.dtype).eps), constant_columns(x)
    x = np.asarray(x, float)
    shifted = x - x[:1]  # exactly zero where an input is constant, which subtracting the mean is not
    shift = shifted.mean(axis=0)
    mean, spread = x[0] + shift, np.where(constant, 1.0, x.std(axis=0))
    varying = ((shifted - shift) / spread)[:, ~constant]
    unseen = np.eye(x.shape[1])[:, constant]
    if varying.shape[1]:
        _, singular, directions = np.linalg.svd(np.linalg.qr(varying, mode="r"))
        size = np.hypot(mean, spread)[~constant] / spread[~constant]  # of a number, in units of its column's spread
        rounding = _ROUNDINGS * np.sqrt(len(x)) * np.linalg.norm(size)
        rank = np.count_nonzero(singular > eps * max(rounding, max(varying.shape) * singular.max(initial=0.0)))
        flat = np.zeros((x.shape[1], varying.shape[1] - rank))
        flat[~constant] = directions[rank:].T / spread[~constant, None]
        unseen = np.linalg.qr(np.hstack([unseen, flat]))[0] if flat.shape[1] else unseen
    return Variation(mean, spread, constant, unseen)


def constant_columns(
    x: Float[Array, "samples columns"] | Float[np.ndarray, "samples columns"],
) -> Bool[np.ndarray, " columns"]:
    """Which columns are the same in every row, but for rounding."""
    eps = float(np.finfo(x.dtype).eps)
    x = np.asarray(x, float)
    return np.ptp(x, axis=0) <= _ROUNDINGS * eps * np.abs(x).max(axis=0)
