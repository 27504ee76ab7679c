"""Outgoing weights by least squares, and the signs of neurons whose flip leaves a linear map behind.

For even + linear activations (softplus, silu, gelu, relu) clustering finds every neuron up to its sign,

    a fn(-z) = parity a fn(z) + constant a + linear a z,

so the answer of the teacher is a sum over the neurons as they were found, plus a linear map of the inputs that adds up
linear * parity * a z over the wrongly signed ones. Fit both; the map's coefficients on the neurons are 0 or 1.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..base.precision import in_full_precision
from ..network import Layer, LayerActivation, Network, hidden_states, layer_state
from ..network.symmetries import Symmetries, symmetries
from ..objective import Inputs, Outputs
from ..objective.columns import cost_of_leaving_out

Vectors = Float[np.ndarray, "width fan_in_1"]  # incoming weight vectors, bias last

_ALL_SIGNS_UP_TO = 16  # neurons whose 2^width combinations of signs are all compared


class Neurons(NamedTuple):
    """Neurons of one layer without their outgoing weights, on the host in float64."""

    vectors: Vectors
    activation: LayerActivation

    @property
    def width(self) -> int:
        """How many there are."""
        return len(self.vectors)

    @property
    def symmetries(self) -> Symmetries:
        """Of every neuron."""
        return symmetries(self.activation, self.width)

    def take(self, which: Int[np.ndarray, " neurons"] | Bool[np.ndarray, " width"]) -> "Neurons":
        """Some of them."""
        which = np.arange(self.width)[which]
        return Neurons(self.vectors[which], self.activation.take(which))

    def without(self, neuron: int) -> "Neurons":
        """All but one."""
        return self.take(np.delete(np.arange(self.width), neuron))

    def flipped(self, sign: Float[np.ndarray, " width"]) -> "Neurons":
        """With other signs."""
        return self._replace(vectors=sign[:, None] * self.vectors)

    def layer(self, dtype) -> Layer:
        """The layer that they make, on the device."""
        return Layer(jnp.asarray(self.vectors[:, :-1], dtype), jnp.asarray(self.vectors[:, -1], dtype), self.activation)


class OutputFit(NamedTuple):
    """Least squares of the targets on a layer's neurons, a constant, and possibly the inputs."""

    a: Float[np.ndarray, "fan_out width"]
    c: Float[np.ndarray, " fan_out"]
    linear: Float[np.ndarray, "fan_out fan_in"]
    loss: float  # mean squared error over samples and outputs

    def layer(self, dtype) -> Layer:
        """The output layer, its linear map of the inputs left out."""
        return Layer(jnp.asarray(self.a, dtype), jnp.asarray(self.c, dtype))


@in_full_precision
def responses(neurons: Neurons, x: Inputs) -> Float[np.ndarray, "samples width"]:
    """Activations of the neurons over the queries, on the host in float64."""
    return np.asarray(layer_state(neurons.layer(x.dtype), x).h, float)


def fit_output(neurons: Neurons, x: Inputs, y: Outputs, *, with_linear: bool = False) -> OutputFit:
    """Outgoing weights and output bias for given incoming weight vectors.

    Args:
        neurons: The hidden layer.
        x: Queries.
        y: Targets.
        with_linear: Whether a linear map of the inputs may help.
    """
    phi = responses(neurons, x)
    inputs = np.asarray(x, float) if with_linear else np.zeros((len(x), 0))
    fit = fit_columns(phi, inputs, np.asarray(y, float))
    return fit if with_linear else fit._replace(linear=np.zeros((y.shape[1], x.shape[1])))


def fit_columns(
    phi: Float[np.ndarray, "samples width"],
    inputs: Float[np.ndarray, "samples n_inputs"],
    y: Float[np.ndarray, "samples fan_out"],
) -> OutputFit:
    """Least squares of targets on neurons' responses, inputs (possibly none) and a constant."""
    width = phi.shape[1]
    basis, scale = _basis(phi, inputs)
    solution, *_ = np.linalg.lstsq(basis / scale, y, rcond=1e-13)
    weights = (solution / scale[:, None]).T
    loss = float(np.mean((basis @ weights.T - y) ** 2))
    return OutputFit(weights[:, :width], weights[:, -1], weights[:, width:-1], loss)


def removal_costs(
    phi: Float[np.ndarray, "samples width"],
    inputs: Float[np.ndarray, "samples n_inputs"],
    y: Float[np.ndarray, "samples fan_out"],
) -> Float[np.ndarray, " width"]:
    """How much the mean squared error of `fit_columns` rises when a neuron is left out."""
    columns, targets = _compressed(*_basis(phi, inputs), y)
    return _rises(columns, targets)[: phi.shape[1]] / y.size


def cheapest_first(
    phi: Float[np.ndarray, "samples width"], y: Float[np.ndarray, "samples fan_out"]
) -> Iterator[tuple[int, float]]:
    """Neurons in the order in which least squares do without them, each beside those that are left then.

    Yields:
        The neuron, and how much its going raises the mean squared error; all but the last one.
    """
    columns, targets = _compressed(*_basis(phi, np.zeros((len(phi), 0))), y)
    left = list(range(phi.shape[1]))
    while len(left) > 1:
        rises = _rises(columns[:, [*left, -1]], targets)[:-1] / y.size
        cheapest = int(np.argmin(rises))
        yield left.pop(cheapest), float(rises[cheapest])


def _compressed(
    basis: Float[np.ndarray, "samples columns"],
    scale: Float[np.ndarray, " columns"],
    y: Float[np.ndarray, "samples fan_out"],
) -> tuple[Float[np.ndarray, "rows columns"], Float[np.ndarray, "rows fan_out"]]:
    """Scaled columns and targets whose least squares are those of all samples, in as few rows as there are of both."""
    r = np.asarray(np.linalg.qr(np.concatenate([basis / scale, y], axis=1), mode="r"))
    return r[:, : len(scale)], r[:, len(scale) :]


def _rises(
    columns: Float[np.ndarray, "rows columns"], targets: Float[np.ndarray, "rows fan_out"]
) -> Float[np.ndarray, " columns"]:
    """How much the sum of squares rises without each column."""
    u, singular, vt = np.linalg.svd(columns, full_matrices=False)
    # (G^-1)_ii is the squared norm of row i of R^-1. Columns that others replace have singular values of rounding size;
    # a floor keeps their cost at (nearly) nothing instead of nan.
    inverse = vt.T / np.maximum(singular, 1e-14 * singular.max())
    weights = (vt.T / np.where(singular > 1e-13 * singular.max(), singular, np.inf)) @ (u.T @ targets)
    return cost_of_leaving_out(weights.T, np.sum(inverse**2, axis=1))


def _basis(phi: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of a fit and their norms, so that they compare by direction; what is below rounding is nothing."""
    basis = np.concatenate([phi, inputs, np.ones((len(phi), 1))], axis=1)
    norm = np.linalg.norm(basis, axis=0)
    silent = norm <= np.finfo(float).eps * norm.max()  # of unit norm, rounding errors would get weights of any size
    return np.where(silent, 0, basis), np.where(silent, 1, norm)


def neurons_of(net: Network, layer: int = 0) -> Neurons:
    """The neurons of a hidden layer of one network."""
    hidden = net.layers[layer]
    vectors = np.concatenate([np.asarray(hidden.w, float), np.asarray(hidden.b, float)[:, None]], axis=1)
    return Neurons(vectors, hidden.activation)


def linear_inputs(x: Inputs, neurons: Neurons) -> Float[np.ndarray, "samples n_inputs"]:
    """The queries where neurons of open sign may need a linear map of them, else no columns at all."""
    is_open = neurons.symmetries.leaves_linear_map.any()
    return np.asarray(x, float)[:, slice(None) if is_open else slice(0)]


def likely_signs(
    neurons: Neurons, fit: OutputFit, x: Inputs, *, n_best: int = 1
) -> list[tuple[Float[np.ndarray, " width"], float]]:
    """Sign changes that explain the linear map of a fit, most likely first.

    Args:
        neurons: As they were found.
        fit: Least squares with a linear map.
        x: Queries; a linear map counts by what it does to them.
        n_best: How many combinations to return; one, the rounded solution, beyond 16 neurons whose sign is open.

    Returns:
        Pairs of a sign (+1 or -1) for every neuron, and the rms over the queries of the linear map that is left.
    """
    symmetry = neurons.symmetries
    is_open = np.flatnonzero(symmetry.leaves_linear_map)
    width = len(is_open)
    centred = np.asarray(x, float) - np.asarray(x, float).mean(0)
    root = np.linalg.qr(centred, mode="r") / np.sqrt(len(x))  # |root u| is the rms of u.x over the queries
    # A wrong sign leaves symmetry.linear * parity * a z: one column a neuron, one row an output and input direction.
    maps = np.einsum("oi,ik->oki", fit.a * symmetry.linear * symmetry.parity, neurons.vectors[:, :-1] @ root.T)
    maps, target = maps[..., is_open].reshape(-1, width), (fit.linear @ root.T).reshape(-1)
    if width <= _ALL_SIGNS_UP_TO:
        flips = (np.arange(2**width)[:, None] >> np.arange(width)) & 1
    else:
        solution, *_ = np.linalg.lstsq(maps, target, rcond=None)
        flips = (solution > 0.5).astype(int)[None]
    gram, pull = maps.T @ maps, maps.T @ target
    square = np.einsum("fi,ij,fj->f", flips, gram, flips, optimize=True) - 2 * flips @ pull
    best = np.argsort(square, kind="stable")[:n_best]
    left = np.linalg.norm(flips[best] @ maps.T - target, axis=1)
    signs = np.ones((len(best), neurons.width))
    signs[:, is_open] -= 2.0 * flips[best]
    return [(sign, float(rms)) for sign, rms in zip(signs, left, strict=True)]


def contributions(net: Network, x: Inputs) -> Float[np.ndarray, " width"]:
    """How much every neuron of the first hidden layer moves the next one: rms over samples, less its mean."""
    a = np.asarray(net.layers[1].w, float)
    return np.linalg.norm(a, axis=0) * responses(neurons_of(net), x).std(0) / np.sqrt(a.shape[0])


# --- the next layer as targets -------------------------------------------------------------------------------------


def wanted(net: Network, x: Inputs, y: Outputs) -> Float[Array, "samples n_wanted"]:
    """What the first hidden layer's outgoing weights have to make of it.

    The targets, or in a deeper network the pre-activations of the next layer.
    """
    return y if len(net.layers) == 2 else before_next(net, x)


@in_full_precision
def before_next(net: Network, x: Inputs) -> Float[Array, "samples width_2"]:
    """What the first hidden layer makes of the queries: pre-activations of the second layer."""
    return hidden_states(net, x)[1].z
