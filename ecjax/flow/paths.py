"""What paths look like: how far two of them are apart, and where a student's neurons go."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..network import Network
from .trajectory import Trajectory


class Distance(NamedTuple):
    """Of the saved points of one path from another path."""

    time: Float[np.ndarray, " saves"]  # of the points
    distance: Float[np.ndarray, " saves"]  # Euclidean, in parameters
    time_there: Float[np.ndarray, " saves"]  # when the other path is where it is closest


def distance(one: Trajectory, other: Trajectory, *, same_time: bool = False) -> list[Distance]:
    """How far each student's saved points are from the path of the same student in another trajectory.

    Between its saved points, the other path is taken as straight: save it more densely than its bends.

    Args:
        one: Whose points are measured.
        other: From which path.
        same_time: From where the other path is at the same flow time, in the place of where it is closest. Points later
            than its end are left out.

    Raises:
        ValueError: If they have not the same students.
    """
    if one.n_students != other.n_students or one.like.shape != other.like.shape:
        raise ValueError(
            f"Two trajectories of the same students have a distance; got {one.n_students} students of shape "
            f"{one.like.shape} and {other.n_students} of {other.like.shape}."
        )
    measure = _at_the_same_time if same_time else _closest
    return [measure(*one.path(i), *other.path(i)) for i in range(one.n_students)]


def _at_the_same_time(time, theta, other_time, other_theta) -> Distance:
    there = time <= other_time[-1]
    time, theta = time[there], theta[there]
    after = np.clip(np.searchsorted(other_time, time), 1, len(other_time) - 1) if len(other_time) > 1 else None
    if after is None:
        at = np.broadcast_to(other_theta[:1], theta.shape)
    else:
        before = after - 1
        share = (time - other_time[before]) / (other_time[after] - other_time[before])
        at = other_theta[before] + share[:, None] * (other_theta[after] - other_theta[before])
    return Distance(time, np.linalg.norm(theta - at, axis=1), time)


def _closest(time, theta, other_time, other_theta) -> Distance:
    if len(other_time) == 1:
        return Distance(time, np.linalg.norm(theta - other_theta[:1], axis=1), np.full(len(time), other_time[0]))
    step = np.diff(other_theta, axis=0)
    length = np.maximum(np.sum(step**2, axis=1), np.finfo(float).tiny)
    found, when = [], []
    for point in theta:
        share = np.clip(np.sum((point - other_theta[:-1]) * step, axis=1) / length, 0, 1)
        apart = np.linalg.norm(point - other_theta[:-1] - share[:, None] * step, axis=1)
        best = int(apart.argmin())
        found.append(apart[best])
        when.append(other_time[best] + share[best] * (other_time[best + 1] - other_time[best]))
    return Distance(time, np.array(found), np.array(when))


class NeuronPaths(NamedTuple):
    """The neurons of one student's hidden layer over time."""

    time: Float[np.ndarray, " saves"]
    incoming: Float[np.ndarray, "saves width inputs"]  # with the bias as last input
    outgoing: Float[np.ndarray, "saves fan_out width"]


def neuron_paths(path: Trajectory, i: int, *, layer: int = 0) -> NeuronPaths:
    """Where the neurons of student i go in their weight space.

    Raises:
        ValueError: If there is no such student or hidden layer.
    """
    if not -path.n_students <= i < path.n_students or not 0 <= layer < len(path.like.widths):
        raise ValueError(
            f"There are {path.n_students} students and {len(path.like.widths)} hidden layers, counted from 0; got "
            f"student {i} and layer {layer}."
        )
    networks = path.networks(i)
    inner, outer = networks.layers[layer], networks.layers[layer + 1]
    incoming = np.concatenate([np.asarray(inner.w), np.asarray(inner.b)[..., None]], axis=-1)
    return NeuronPaths(path.path(i)[0], incoming, np.asarray(outer.w))


def overlaps(
    path: Trajectory, i: int, teacher: Network, *, layer: int = 0
) -> Float[np.ndarray, "saves width teacher_width"]:
    """Cosines of the angles between incoming vectors, biases included, of student i and of a teacher, over time.

    Raises:
        ValueError: If the layers have different inputs.
    """
    mine = neuron_paths(path, i, layer=layer).incoming
    inner = teacher.layers[layer]
    theirs = np.concatenate([np.asarray(inner.w), np.asarray(inner.b)[..., None]], axis=-1)
    if mine.shape[-1] != theirs.shape[-1]:
        raise ValueError(
            f"`teacher` has {theirs.shape[-1] - 1} inputs to layer {layer}, students {mine.shape[-1] - 1}."
        )
    unit = lambda vectors: vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(float).tiny)
    return unit(mine) @ unit(theirs).T
