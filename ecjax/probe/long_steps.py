"""Directions in a box, exactly: second differences with long steps, held against a network's own.

In a box no neuron is ever alone, and Hessians are all there is to tell its direction. From short steps that is known to
the square root of the precision: rounding is divided by the square of the step, and truncation grows with it. Once a
network is nearly right, its truncation is that of the teacher. With D the second differences of either, and H the
Hessians of the network,

    H(network) + D(teacher) - D(network)

are Hessians of the teacher but for an error that is a share of the network's own, some hundredth, so that a few rounds
of diagonalising end in the rounding of long steps. They cost nothing: the questions are the same.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .curves import bends
from .differences import hessian
from .hessians import together
from .polish import Shallow
from .reach import Reach

# In units of the scale, for each root of a direction, where the walls allow it: a pre-activation, which is a sum over
# all directions, changes by some hundredths of what bends a neuron.
_STEP = 0.02
_INSIDE = 0.9  # share of the way to the walls that a step goes at most


class LongSteps(NamedTuple):
    """Second differences of the answers.

    Attributes:
        points: Where they were taken.
        step: How long.
        seen: Of every output at every point.
    """

    points: Float[np.ndarray, "points rank"]
    step: float
    seen: Float[np.ndarray, "points fan_out rank rank"]


def long_steps(reach: Reach, points: Float[np.ndarray, "points rank"]) -> LongSteps:
    """Second differences with steps as long as they may be; about rank^2 questions a point."""
    questions = reach.rest + points @ reach.basis
    room = np.minimum(questions - reach.low, reach.high - questions).min(axis=0)
    move = 2 * np.abs(reach.basis).max(axis=0)  # of an input, by a step along two directions at once
    step = min(_STEP * np.sqrt(reach.rank) * reach.scale, _INSIDE * float(np.min(room[move > 0] / move[move > 0])))
    return LongSteps(points, step, np.stack([hessian(reach, point, step) for point in points]))


def sharpened(net: Shallow, taken: LongSteps) -> Float[np.ndarray, "width rank"]:
    """Incoming weights of a network that is nearly right, their directions nearer by a factor of some hundred.

    Args:
        net: In the coordinates of the points, with as many neurons as these have.
        taken: Second differences of the teacher.
    """
    exact = np.einsum("pi,oi,ij,il->pojl", bends(net.activation, net.z(taken.points)), net.a, net.w, net.w)
    own = np.stack([hessian(net.answers, point, taken.step) for point in taken.points])
    hessians = (exact + taken.seen - own).reshape(-1, *exact.shape[2:])
    norm = np.linalg.norm(hessians, axis=(1, 2), keepdims=True)
    w = np.linalg.inv(together(hessians / norm, np.linalg.inv(net.w)))
    turned = np.sign(np.sum(w * net.w, axis=1)) * np.linalg.norm(net.w, axis=1) / np.linalg.norm(w, axis=1)
    return turned[:, None] * w
