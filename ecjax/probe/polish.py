"""Scales, biases and output layer of a shallow network all together, on questions where every neuron is in its range.

What was measured neuron by neuron, far out, has errors in proportion to how far that was. Directions are right by
then; what is left is linear least squares in a few numbers for each neuron.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..network import Activation
from .curves import slope_values, values
from .differences import Asked
from .stack import Stack, Weights

_EQUATIONS = 1.6  # for each unknown
_ROUNDS = 4  # of Gauss and Newton; two reach rounding


class Shallow(NamedTuple):
    """A network with one hidden layer, on the host: a s(w u + b) + c."""

    activation: Activation
    w: Float[np.ndarray, "width fan_in"]
    b: Float[np.ndarray, " width"]
    a: Float[np.ndarray, "fan_out width"]
    c: Float[np.ndarray, " fan_out"]

    def z(self, u: Float[np.ndarray, "samples fan_in"]) -> Float[np.ndarray, "samples width"]:
        """Pre-activations."""
        return u @ self.w.T + self.b

    @property
    def stack(self) -> Stack:
        """The same as layers."""
        return (Weights(self.w, self.b, self.activation), Weights(self.a, self.c))

    def answers(self, u: Float[np.ndarray, "samples fan_in"]) -> Float[np.ndarray, "samples fan_out"]:
        """What it answers."""
        return values(self.activation, self.z(u)) @ self.a.T + self.c

    def errors(self, u: Float[np.ndarray, "samples fan_in"], y: Float[np.ndarray, "samples fan_out"]):
        """What it answers too much."""
        return self.answers(u) - y


def polished(
    ask: Asked,
    activation: Activation,
    w: Float[np.ndarray, "width rank"],
    b: Float[np.ndarray, " width"],
    *,
    points: Callable[[int], Float[np.ndarray, "questions rank"]],
) -> Shallow:
    """Fit scales, biases, outgoing weights and output bias.

    Args:
        ask: The teacher, in the coordinates of `w`.
        activation: Of the hidden layer.
        w: Incoming weights, their directions right.
        b: Biases, nearly right.
        points: So many questions among which neurons bend.
    """
    width = len(w)
    fan_out = ask(points(1)).shape[1]
    n = int(np.ceil(_EQUATIONS * (2 * width / fan_out + width + 1)))
    u = points(n)
    y = ask(u)
    found, best = _output(Shallow(activation, w, b, np.zeros((fan_out, width)), np.zeros(fan_out)), u, y), None
    least = np.inf
    for _ in range(_ROUNDS):
        errors = found.errors(u, y)
        size = float(np.sqrt(np.mean(errors**2)))
        if not size < least:
            break
        best, least = found, size
        slope = slope_values(activation, found.z(u))
        by_scale = slope * (u @ found.w.T)
        if activation.symmetry.homogeneous:
            by_scale = 0 * by_scale  # it is that of the outgoing weights
        along = np.concatenate([by_scale, slope], axis=1)  # by the scale and the bias of each neuron
        hidden = np.concatenate([values(activation, found.z(u)), np.ones((n, 1))], axis=1)
        # Outgoing weights are linear, the same columns for every output: project them out.
        q, _ = np.linalg.qr(hidden)
        project = lambda columns, q=q: columns - q @ (q.T @ columns)
        j = np.concatenate([project(along * np.tile(a, 2)) for a in found.a])
        r = np.concatenate([project(-each) for each in errors.T])
        change, *_ = np.linalg.lstsq(j, r, rcond=1e-12)
        w, b = found.w * (1 + change[:width, None]), found.b + change[width:]
        found = _output(found._replace(w=w, b=b), u, y)
    assert best is not None  # of several rounds the first always counts, unless answers are not finite
    return best


def _output(net: Shallow, u: np.ndarray, y: np.ndarray) -> Shallow:
    """With the best output layer."""
    hidden = np.concatenate([values(net.activation, net.z(u)), np.ones((len(u), 1))], axis=1)
    weights, *_ = np.linalg.lstsq(hidden, y, rcond=1e-13)
    return net._replace(a=weights[:-1].T, c=weights[-1])
