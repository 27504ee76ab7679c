"""Whether inputs vary: the one answer, to rounding, for everybody who asks.

Weights along a direction in which the inputs of a layer never vary can't be told from its bias. Columns are looked at
first, each against its own size, then directions with every column in units of its own spread, so that the answer does
not depend on the units of the inputs.

(The cluster phase measures neurons by the second moment of the inputs alone, in which small variations drown in the
rounding of large ones; what it leaves out is documented in `ecjax.cluster.embedding`.)
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float

_ROUNDINGS = 4  # of a column's largest entry, within which it is constant: a sum, a product, and their rounding


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
    eps = float(np.finfo(x.dtype).eps)
    x = np.asarray(x, float)
    shifted = x - x[:1]  # exactly zero where an input is constant, which subtracting the mean is not
    constant = np.ptp(x, axis=0) <= _ROUNDINGS * eps * np.abs(x).max(axis=0)
    shift = shifted.mean(axis=0)
    spread = np.where(constant, 1.0, x.std(axis=0))
    varying = ((shifted - shift) / spread)[:, ~constant]
    unseen = np.eye(x.shape[1])[:, constant]
    if varying.shape[1]:
        _, singular, directions = np.linalg.svd(np.linalg.qr(varying, mode="r"))
        rank = np.count_nonzero(singular > max(varying.shape) * eps * singular.max(initial=0.0))
        flat = np.zeros((x.shape[1], varying.shape[1] - rank))
        flat[~constant] = directions[rank:].T / spread[~constant, None]
        unseen = np.linalg.qr(np.hstack([unseen, flat]))[0] if flat.shape[1] else unseen
    return Variation(x[0] + shift, spread, constant, unseen)
