"""Queries and targets in units of their own spread, and the way back for networks trained on them.

Students are trained on x' = map (x - mean) and y' = (y - mean) / scale. Any affine change of the inputs is a change of
the first layer's weights, so nothing is lost: `undo` returns the network that does on x what the other did on x'. Input
directions that do not vary over the queries are left out of x'; the weights along them are invisible, and come back as
zero.
"""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..base.precision import in_full_precision
from ..network import Layer, Network
from .samples import Inputs, Outputs, Samples
from .variation import variation

Standardise = Literal["columns", "common", "no"]


class Scaling(eqx.Module):
    """The affine change of inputs and outputs; see the module."""

    x_mean: Float[np.ndarray, " fan_in"]
    x_map: Float[np.ndarray, "rank fan_in"]
    y_mean: Float[np.ndarray, " fan_out"]
    y_scale: Float[np.ndarray, " fan_out"]

    @property
    def n_hidden_directions(self) -> int:
        """How many independent input directions do not vary over the queries."""
        return self.x_map.shape[1] - self.x_map.shape[0]

    @property
    def constant_inputs(self) -> Int[np.ndarray, " constant"]:
        """Which inputs are the same in every query."""
        return np.flatnonzero(~self.x_map.any(axis=0))

    def samples(self, x: Inputs, y: Outputs) -> Samples:
        """Queries and targets as students see them."""
        return Samples(self.inputs(x), self.targets(y))

    def inputs(self, x: Inputs) -> Float[Array, "samples rank"]:
        """The queries as students see them."""
        return _affine(x, self.x_mean, self.x_map)

    def targets(self, y: Outputs) -> Outputs:
        """The targets as students see them."""
        return _affine(y, self.y_mean, np.diag(1 / self.y_scale))

    def undo(self, net: Network, linear: Float[np.ndarray, "fan_out rank"] | None) -> tuple[Network, Layer | None]:
        """The network, and a linear map beside it, for unscaled inputs and outputs.

        Args:
            net: One network trained on scaled data.
            linear: Linear map from the scaled inputs that is added to its answers, if there is one.

        Returns:
            The network with everything constant in its output bias, and the map from the unscaled inputs, or None where
            it is zero.
        """
        first, *middle, last = net.layers
        dtype = net.dtype
        w = np.asarray(first.w, float) @ self.x_map
        b = np.asarray(first.b, float) - w @ self.x_mean
        fan_out, rank = len(self.y_scale), len(self.x_map)
        linear = self.y_scale[:, None] * ((np.zeros((fan_out, rank)) if linear is None else linear) @ self.x_map)
        out_w = self.y_scale[:, None] * np.asarray(last.w, float)
        out_b = self.y_scale * np.asarray(last.b, float) + self.y_mean - linear @ self.x_mean
        cast = lambda array: jnp.asarray(array, dtype)
        first, last = Layer(cast(w), cast(b), first.activation), Layer(cast(out_w), cast(out_b))
        skip = Layer(cast(linear), jnp.zeros(len(linear), dtype)) if np.any(linear) else None
        return Network((first, *middle, last)), skip


@in_full_precision
def _affine(x: Array, mean: np.ndarray, matrix: np.ndarray) -> Array:
    return (x - jnp.asarray(mean, x.dtype)[None]) @ jnp.asarray(matrix.T, x.dtype)


def scaling(x: Inputs, y: Outputs, *, standardise: Standardise = "columns") -> Scaling:
    """Measure the spread of queries and targets.

    Args:
        x: Queries.
        y: Targets; every output varies.
        standardise: "columns" (every input gets mean 0 and variance 1: inputs in different units), "common" (mean 0 and
            one factor for all: pixels, of which a scale of their own would magnify those that hardly ever light up) or
            "no" (inputs as they came, rid only of directions that do not vary).
    """
    seen = variation(x)
    x64, y64 = np.asarray(x, float), np.asarray(y, float)
    mean, spread = seen.mean, seen.spread
    if standardise == "no":
        spread = np.ones_like(spread)
    elif standardise == "common":
        spread = np.full_like(spread, np.sqrt(np.mean(spread[~seen.constant] ** 2)))
    x_map = np.diag(1 / spread)[~seen.constant]
    if seen.rank < len(x_map):  # columns that depend on each other: an orthonormal basis of the directions that vary
        # Those that vary most in these units. Directions of `seen`, in units of every column's own spread, would be
        # oblique here: what pixels that light up twice have beside them would leak in (a factor of 8 on 2,000 images).
        _, _, directions = np.linalg.svd(np.linalg.qr((x64 - mean) @ x_map.T, mode="r"))
        x_map = directions[: seen.rank] @ x_map
    if standardise == "no" and len(x_map) == x64.shape[1]:
        mean = np.zeros_like(mean)  # plain inputs, as they came
    return Scaling(mean, x_map, y64.mean(0), y64.std(0))


def scaling_of_outputs(y: Outputs, fan_in: int) -> Scaling:
    """Targets with mean 0 and variance 1, and all inputs as they came, those included that seem not to vary."""
    y64 = np.asarray(y, float)
    return Scaling(np.zeros(fan_in), np.eye(fan_in), y64.mean(0), y64.std(0))
