"""A network of any depth on the host: what it answers, and how that changes with the first layer's pre-activations."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..network import Activation
from .curves import slope_values, values


class Weights(NamedTuple):
    """One layer.

    Attributes:
        w: Incoming weights.
        b: Biases.
        activation: Of its neurons; None of the output.
    """

    w: Float[np.ndarray, "width fan_in"]
    b: Float[np.ndarray, " width"]
    activation: Activation | None = None


Stack = Sequence[Weights]


def states(stack: Stack, z: Float[np.ndarray, "samples width"]) -> list[Float[np.ndarray, "samples _"]]:
    """Pre-activations of every layer from those of the first; the last are the answers."""
    every = [z]
    for below, layer in pairwise(stack):
        assert below.activation is not None
        every.append(values(below.activation, every[-1]) @ layer.w.T + layer.b)
    return every


def answers(stack: Stack, x: Float[np.ndarray, "samples fan_in"]) -> Float[np.ndarray, "samples fan_out"]:
    """Of the whole network."""
    return states(stack, x @ stack[0].w.T + stack[0].b)[-1]


def sensitivities(
    stack: Stack, every: Sequence[Float[np.ndarray, "samples _"]]
) -> Float[np.ndarray, "samples fan_out width"]:
    """Derivatives of the answers by the first layer's pre-activations, from the `states`."""
    n, fan_out = every[-1].shape
    by_z = np.broadcast_to(np.eye(fan_out), (n, fan_out, fan_out))
    for layer, below, z in zip(stack[:0:-1], stack[-2::-1], every[-2::-1], strict=True):
        assert below.activation is not None
        by_z = (by_z @ layer.w) * slope_values(below.activation, z)[:, None, :]
    return by_z
