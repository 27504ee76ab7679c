"""Metrics: coordinates in which the distance of two neurons is Euclidean.

A neuron is seen only through its pre-activation z = w x + b, so the natural distance between two of them is the root
mean square difference of their pre-activations over the queries,

    d(u, v)^2 = (u - v)' S (u - v),    S = second moment of the inputs with a 1 appended.

With m the mean and C the covariance of the inputs, d is Euclidean in the coordinates (C^(1/2) w, b + m w): the last one
is the pre-activation at the mean input. Directions in which the inputs never vary have no coordinate. The paper's L2
distance of (w, b) needs no change of coordinates. Whatever the metric, one Euclidean kernel does the rest, so a metric
of your own is a function that makes coordinates: `ClusterConfig(metric=Metric("mine", coordinates))`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Neurons = Float[np.ndarray, "neurons fan_in_1"]  # rows (w, b): the bias is the last coordinate
Moment = Float[np.ndarray, "fan_in_1 fan_in_1"]
Coordinates = Callable[[Neurons, Moment | None], Float[np.ndarray, "neurons coordinates"]]


@dataclass(frozen=True)
class Metric:
    """What the distance of two neurons is.

    Attributes:
        name: What it is called in settings, files and figures.
        coordinates: Makes a row of coordinates of every neuron (w, b), the bias last, given the second moment of the
            layer's inputs with a 1 appended (None if it is not needed). The last coordinate is the bias, or what plays
            its part: a neuron whose other coordinates are all zero is constant. Where an activation leaves the sign
            or the scale open, the row of -v must be minus that of v, and that of c v, c > 0, must be c times it.
        needs_moment: Whether the coordinates depend on the layer's inputs.
        cosine: Whether distances are 1 - cos of the angle between two rows, instead of the length of their difference.
        periodic: Whether adding to a bias adds as much to the last coordinate and nothing to the others, without which
            neurons of sin and cos, whose biases are known modulo a period, have no distance.
    """

    name: str
    coordinates: Coordinates | str  # a file can only name the function
    needs_moment: bool = False
    cosine: bool = False
    periodic: bool = False

    def __str__(self) -> str:
        return self.name

    def of(self, neurons: Neurons, moment: Moment | None) -> Float[np.ndarray, "neurons coordinates"]:
        """The neurons' coordinates.

        Raises:
            ValueError: If the moment is missing or malformed, the coordinates are, or a file has only told their name.
        """
        if isinstance(self.coordinates, str):
            raise ValueError(
                f"`metric` {self.name!r} is known by name only, as it was read from a file: give the ecjax.cluster."
                "Metric itself to measure with it."
            )
        moment = _checked_moment(moment, neurons.shape[1], self.name) if self.needs_moment else None
        x = self.coordinates(neurons, moment)
        if x.ndim != 2 or len(x) != len(neurons):
            raise ValueError(
                f"`metric` {self.name!r} makes a row of coordinates for each of {len(neurons)} neurons; got {x.shape}."
            )
        return x


def as_metric(metric: str | Metric) -> Metric:
    """The metric of that name, or the one given.

    Raises:
        ValueError: If none has that name.
    """
    if isinstance(metric, Metric):
        return metric
    if metric not in METRICS:
        raise ValueError(f"`metric` is one of {tuple(METRICS)} or an ecjax.cluster.Metric; got {metric!r}.")
    return METRICS[metric]


def _whiten(neurons: Neurons, moment: Moment | None) -> np.ndarray:
    assert moment is not None  # this metric needs it
    second, mean = moment[:-1, :-1], moment[-1, :-1]
    variances, directions = np.linalg.eigh(second - np.outer(mean, mean))
    # Subtracting the mean's square leaves rounding errors of this size where the inputs don't vary at all: eps |S| for
    # each of so many terms.
    varies = variances > len(moment) * np.finfo(float).eps * np.linalg.norm(moment, 2)
    scaled = directions[:, varies] * np.sqrt(variances[varies])
    return neurons @ np.block([[scaled, mean[:, None]], [np.zeros((1, scaled.shape[1])), np.ones((1, 1))]])


def _as_they_are(neurons: Neurons, moment: Moment | None) -> np.ndarray:
    return neurons


# The metrics that settings, files and the command line know by name.
METRICS = {
    metric.name: metric
    for metric in (
        Metric("preactivation", _whiten, needs_moment=True, periodic=True),
        Metric("euclidean", _as_they_are, periodic=True),
        Metric("cosine", _as_they_are, cosine=True),
    )
}


def _checked_moment(moment: Moment | None, size: int, name: str) -> Moment:
    if moment is None:
        raise ValueError(
            f'`moment` is needed for the metric "{name}": pass ecjax.cluster.second_moment(x) of the layer\'s inputs, '
            'or choose metric="euclidean".'
        )
    if moment.shape != (size, size) or not np.isfinite(moment).all():
        raise ValueError(
            f"`moment` is a finite matrix [{size}, {size}] for neurons with {size} coordinates (bias included); "
            f"got shape {moment.shape}."
        )
    if not np.isclose(moment[-1, -1], 1.0):
        raise ValueError(f"`moment` has 1 as its last entry, the mean of the appended 1; got {moment[-1, -1]:g}.")
    return moment
