"""The row space of the first layer: the directions of the inputs that the answers depend on at all.

Gradients of the answers at m points are m * fan_out vectors, all of them combinations of the first layer's incoming
weight vectors. Where these are fewer than the inputs, the singular values of the gradients fall by many orders of
magnitude at their number: the width, if they are independent. All further questions live in so many coordinates.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .differences import Asked, gradient, gradient_step

# Gradients for each dimension of the space, before its end is believed to have been seen.
_GRADIENTS = 1.3
# Power of the precision. At 784-128-10 a fortieth of a kink is expected within all steps of that length; rounding is
# 1e-8 of a gradient, which `columns` makes good for.
_SHORT_STEP = 0.4
_AT_ONCE = 4096  # questions that are written out in all inputs at the same time
_POINTS = 12  # at least: a relu neuron is silent at every other point
_SPREAD = 0.7  # of the points, in units of the scale of the inputs
# A drop of the singular values below the noise of the differences, eps^(2/3) of the largest, is the end of the space;
# noise itself falls by much less from one to the next. Signals down to 1e-8 were seen in trained teachers.
_DROP = 30.0
_NOISE = 1e4


class RowSpace(NamedTuple):
    """An orthonormal basis of the directions that the answers depend on.

    Attributes:
        basis: Directions, one a row.
        singular: Singular values of the gradients, in units of the largest.
        scale: Of the inputs.
    """

    basis: Float[np.ndarray, "rank fan_in"]
    singular: Float[np.ndarray, " values"]
    scale: float

    @property
    def rank(self) -> int:
        """How many directions there are."""
        return len(self.basis)

    @property
    def is_all(self) -> bool:
        """Whether the answers depend on all inputs, so that the rank says nothing of the width."""
        return self.rank == self.basis.shape[1]

    def within(self, ask: Asked) -> Asked:
        """The same teacher, asked in the coordinates of the basis."""

        def inside(u: Float[np.ndarray, "samples rank"]) -> Float[np.ndarray, "samples fan_out"]:
            parts = np.split(u, range(_AT_ONCE, len(u), _AT_ONCE))
            return np.concatenate([ask(part @ self.basis) for part in parts])

        return inside


def row_space(
    ask: Asked,
    fan_in: int,
    *,
    precision: float,
    scale: float,
    rng: np.random.Generator,
    is_straight: bool = False,
) -> RowSpace:
    """Find it by central differences along all inputs, at as many points as it takes; 2 fan_in questions each.

    Args:
        ask: The teacher.
        fan_in: How many inputs it has.
        precision: Relative error of its answers.
        scale: Of its inputs: about how far one has to go for its neurons to bend.
        rng: For the points.
        is_straight: Whether the answers are straight but for kinks. Steps are shorter then: a kink inside one makes a
            direction that is none.
    """
    step = precision**_SHORT_STEP * scale if is_straight else gradient_step(precision, scale)
    everything = np.eye(fan_in)
    rows, n_points = np.zeros((0, fan_in)), 0
    while True:
        point = _SPREAD * scale * rng.standard_normal(fan_in)
        rows = np.concatenate([rows, gradient(ask, point, everything, step).T])
        # Below twice the inputs a decomposition a point is cheap; the points are few.
        _, singular, basis = np.linalg.svd(rows, full_matrices=False)
        rank = _rank(singular, precision)
        n_points += 1
        if n_points >= _POINTS and len(rows) > max(_GRADIENTS * rank, rank + 1):
            return RowSpace(basis[:rank], singular / singular[0], scale)


def _rank(singular: Float[np.ndarray, " values"], precision: float) -> int:
    """Where singular values end: at the widest drop into noise, or not at all."""
    singular = np.maximum(singular / singular[0], np.finfo(float).tiny)
    drop = singular[:-1] / singular[1:]
    drop = np.where(singular[1:] < _NOISE * precision ** (2 / 3), drop, 0)
    return int(np.argmax(drop)) + 1 if len(drop) and drop.max() > _DROP else len(singular)
