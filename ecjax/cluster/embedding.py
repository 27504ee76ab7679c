"""Neurons as points: a metric's coordinates, with what the activation leaves open."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from ..network import Symmetry
from .metric import Metric, Moment, Neurons, as_metric

# A point shorter than this share of the longest is nothing but rounding error: coordinates are sums of products, wrong
# by k eps of these at most, which is 2e-13 for the k = 785 of an image.
_NIL = 1e-12
# A pre-activation that varies by less than this share of itself is constant: below sqrt(eps) = 1.5e-8 a smooth neuron
# answers with a straight line to rounding, so that any other direction with that slope would do as well.
_CONSTANT = 1e-9


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


def embed(neurons: Neurons, *, metric: str | Metric, symmetry: Symmetry, moment: Moment | None = None) -> Points:
    """The neurons in coordinates in which `metric` is Euclidean.

    Positive homogeneous activations leave the norm of a neuron open, so their points are brought to unit norm (a zero
    vector stays where it is, and is dead).

    Args:
        neurons: Incoming weight vectors with the bias as last coordinate.
        metric: "preactivation", "euclidean" (the paper's), "cosine" (of the raw vectors), or one of your own.
        symmetry: Of the activation.
        moment: `second_moment` of the layer's inputs, for metrics that need it.

    Raises:
        ValueError: If `metric` is unknown or does not go with the activation, or `moment` is missing or malformed.
    """
    metric = as_metric(metric)
    if symmetry.antiperiod is not None and not metric.periodic:
        raise ValueError(
            f'`metric` "{metric}" has no meaning for an activation whose biases are known modulo a period, as it is '
            'not claimed to be periodic. Take "preactivation" or "euclidean".'
        )
    x = metric.of(np.ascontiguousarray(neurons), moment)
    norm, varying = row_norms(x), row_norms(x[:, :-1])
    if not np.isfinite(norm).all():
        raise ValueError(f"`metric` {metric.name!r} made coordinates of finite neurons that are not finite.")
    size = norm
    if symmetry.homogeneous:  # whatever norm a neuron happens to have
        given = row_norms(neurons)
        size = norm / np.where(given > 0, given, 1.0)
    nil = size <= _NIL * size.max(initial=0.0)
    dead = nil | (varying <= _CONSTANT * norm)
    if symmetry.homogeneous or metric.cosine:
        x = np.where(nil[:, None], 0.0, x / np.where(nil, 1.0, norm)[:, None])
    return Points(x, dead, norm, symmetry.is_sign_free, symmetry.antiperiod, metric.cosine)


def row_norms(x: Float[np.ndarray, "rows coordinates"]) -> Float[np.ndarray, " rows"]:
    """Euclidean norm of every row, without the second matrix that np.linalg.norm makes."""
    return np.sqrt(np.einsum("ij,ij->i", x, x))
