"""Neurons as points: coordinates in which the distance between two neurons is Euclidean.

A neuron is seen only through its pre-activation z = w x + b, so the natural distance between two of them is the root
mean square difference of their pre-activations over the queries,

    d(u, v)^2 = (u - v)' S (u - v),    S = second moment of the inputs with a 1 appended.

With m the mean and C the covariance of the inputs, d is Euclidean in the coordinates (C^(1/2) w, b + m w): the last one
is the pre-activation at the mean input. Directions in which the inputs never vary have no coordinate. The paper's L2
distance of (w, b) needs no change of coordinates. Whatever the metric, one Euclidean kernel does the rest.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from ..network import Symmetry

Metric = Literal["preactivation", "euclidean", "cosine"]
Neurons = Float[np.ndarray, "neurons fan_in_1"]  # rows (w, b): the bias is the last coordinate
Moment = Float[np.ndarray, "fan_in_1 fan_in_1"]

_NIL = 1e-12  # a point shorter than this share of the longest is nothing but rounding error
_CONSTANT = 1e-9  # a pre-activation that varies by less than this share of itself is constant


@dataclass(frozen=True)
class Points:
    """Neurons as points of a Euclidean space, with what their activation leaves open.

    A plain dataclass, as all that never leaves the host: methods of Equinox modules cost microseconds a call.

    Attributes:
        x: One row a neuron. The last coordinate is the one that a phase shifts.
        dead: Whether the neuron's pre-activation is zero, or never varies: its direction means nothing.
        norm: Norm of the neuron before any normalisation (rms pre-activation, in the preactivation metric).
        sign_free: Whether x and -x are the same neuron.
        antiperiod: Phase by which the last coordinate may move (with a change of the outgoing sign), or None.
        cosine: Whether distances are 1 - cos of the angle (all points have unit norm then).
    """

    x: Float[np.ndarray, "neurons coordinates"]
    dead: np.ndarray
    norm: np.ndarray
    sign_free: bool
    antiperiod: float | None
    cosine: bool = False

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: np.ndarray | slice) -> "Points":
        """The points of some neurons only."""
        return replace(self, x=self.x[rows], dead=self.dead[rows], norm=self.norm[rows])


def second_moment(x: Float[np.ndarray, "samples fan_in"]) -> Moment:
    """Second moment of the inputs with a 1 appended, in float64; what the preactivation metric measures with.

    Args:
        x: Inputs of the layer, one row a sample.

    Raises:
        ValueError: If `x` is not a matrix of finite numbers with at least one row.
    """
    x = np.asarray(x)
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"`x` is a matrix [samples, fan_in] with at least one sample; got shape {x.shape}.")
    total = np.zeros((x.shape[1] + 1,) * 2)
    for start in range(0, len(x), 16_384):  # by blocks, so that float32 inputs are not copied to float64 at once
        block = np.column_stack([x[start : start + 16_384].astype(float), np.ones(len(x[start : start + 16_384]))])
        total += block.T @ block
    if not np.isfinite(total).all():
        raise ValueError("`x` has NaN or infinite entries; remove those samples.")
    return total / len(x)


def embed(neurons: Neurons, *, metric: Metric, symmetry: Symmetry, moment: Moment | None = None) -> Points:
    """The neurons in coordinates in which `metric` is Euclidean.

    Positive homogeneous activations leave the norm of a neuron open, so their points are brought to unit norm (a zero
    vector stays where it is, and is dead).

    Args:
        neurons: Incoming weight vectors with the bias as last coordinate.
        metric: "preactivation", "euclidean" (the paper's) or "cosine" (of the raw vectors).
        symmetry: Of the activation.
        moment: `second_moment` of the layer's inputs; needed for "preactivation".

    Raises:
        ValueError: If `metric` is unknown or does not go with the activation, or `moment` is missing or malformed.
    """
    neurons = np.ascontiguousarray(neurons)
    if metric == "preactivation":
        x = _whiten(neurons, _checked_moment(moment, neurons.shape[1]))
    elif metric in ("euclidean", "cosine"):
        x = neurons
    else:
        raise ValueError(f'`metric` is "preactivation", "euclidean" or "cosine"; got {metric!r}.')
    if metric == "cosine" and symmetry.antiperiod is not None:
        raise ValueError(
            '`metric` "cosine" has no meaning for an activation whose biases are known modulo a period: a shift of '
            'phase changes every angle. Take "preactivation" or "euclidean".'
        )
    norm, varying = row_norms(x), row_norms(x[:, :-1])
    dead = (norm <= _NIL * norm.max(initial=0.0)) | (varying <= _CONSTANT * norm)
    if symmetry.homogeneous or metric == "cosine":
        nil = norm <= _NIL * norm.max(initial=0.0)
        x = np.where(nil[:, None], 0.0, x / np.where(nil, 1.0, norm)[:, None])
    return Points(x, dead, norm, symmetry.is_sign_free, symmetry.antiperiod, metric == "cosine")


def row_norms(x: Float[np.ndarray, "rows coordinates"]) -> Float[np.ndarray, " rows"]:
    """Euclidean norm of every row, without the second matrix that np.linalg.norm makes."""
    return np.sqrt(np.einsum("ij,ij->i", x, x))


def _whiten(neurons: Neurons, moment: Moment) -> np.ndarray:
    second, mean = moment[:-1, :-1], moment[-1, :-1]
    variances, directions = np.linalg.eigh(second - np.outer(mean, mean))
    # Subtracting the mean's square leaves rounding errors of this size where the inputs don't vary at all.
    varies = variances > len(moment) * np.finfo(float).eps * np.linalg.norm(moment, 2)
    scaled = directions[:, varies] * np.sqrt(variances[varies])
    return neurons @ np.block([[scaled, mean[:, None]], [np.zeros((1, scaled.shape[1])), np.ones((1, 1))]])


def _checked_moment(moment: Moment | None, size: int) -> Moment:
    if moment is None:
        raise ValueError(
            '`moment` is needed for the metric "preactivation": pass ecjax.cluster.second_moment(x) of the layer\'s '
            'inputs, or choose metric="euclidean".'
        )
    if moment.shape != (size, size) or not np.isfinite(moment).all():
        raise ValueError(
            f"`moment` is a finite matrix [{size}, {size}] for neurons with {size} coordinates (bias included); "
            f"got shape {moment.shape}."
        )
    if not np.isclose(moment[-1, -1], 1.0):
        raise ValueError(f"`moment` has 1 as its last entry, the mean of the appended 1; got {moment[-1, -1]:g}.")
    return moment
