"""Outgoing weights by least squares, and the signs of neurons whose flip leaves a linear map behind.

For even + linear activations (softplus, silu, gelu, relu) clustering finds every neuron up to its sign,

    a fn(-z) = parity a fn(z) + constant a + linear a z,

so the answer of the teacher is a sum over the neurons as they were found, plus a linear map of the inputs that adds up
linear * parity * a z over the wrongly signed ones. Fit both; the map's coefficients on the neurons are 0 or 1.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..network.activations import Activation
from ..network.networks import Layer, Network
from ..objective.imitation import Inputs, Outputs

Vectors = Float[np.ndarray, "width fan_in_1"]  # incoming weight vectors, bias last

_ALL_SIGNS_UP_TO = 16  # neurons whose 2^width combinations of signs are all compared


class OutputFit(NamedTuple):
    """Least squares of the targets on a layer's neurons, a constant, and possibly the inputs."""

    a: Float[np.ndarray, "fan_out width"]
    c: Float[np.ndarray, " fan_out"]
    linear: Float[np.ndarray, "fan_out fan_in"]
    loss: float  # mean squared error over samples and outputs


def responses(vectors: Vectors, x: Inputs, activation: Activation) -> Float[np.ndarray, "samples width"]:
    """Activations of the neurons over the queries, on the host in float64."""
    w, b = (jnp.asarray(part, x.dtype) for part in (vectors[:, :-1], vectors[:, -1]))
    return np.asarray(activation(x @ w.T + b[None]), float)


def fit_output(
    vectors: Vectors, x: Inputs, y: Outputs, activation: Activation, *, with_linear: bool = False
) -> OutputFit:
    """Outgoing weights and output bias for given incoming weight vectors.

    Args:
        vectors: Incoming weight vectors, bias last.
        x: Queries.
        y: Targets.
        activation: Of the neurons.
        with_linear: Whether a linear map of the inputs may help.
    """
    phi = responses(vectors, x, activation)
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
    """How much the mean squared error of `fit_columns` rises when a neuron is left out.

    With G the Gram matrix of the fit's columns, leaving out column i costs sum(a_i^2) / (G^-1)_ii.
    """
    width, fit = phi.shape[1], fit_columns(phi, inputs, y)
    basis, scale = _basis(phi, inputs)
    # R of the scaled columns: (G^-1)_ii is the squared norm of row i of R^-1. Columns that others replace have singular
    # values of rounding size; a floor keeps their cost at (nearly) nothing instead of nan.
    r = np.linalg.qr(basis / scale, mode="r")
    _, singular, vt = np.linalg.svd(r)
    inverse = vt.T / np.maximum(singular, 1e-14 * singular.max())
    gain = np.sum(inverse**2, axis=1)[:width]
    return np.sum((fit.a * scale[:width]) ** 2, axis=0) / gain / y.size


def _basis(phi: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of a fit and their norms, so that they compare by direction."""
    basis = np.concatenate([phi, inputs, np.ones((len(phi), 1))], axis=1)
    return basis, np.maximum(np.linalg.norm(basis, axis=0), np.finfo(float).tiny)


def as_network(vectors: Vectors, fit: OutputFit, activation: Activation, dtype) -> Network:
    """The shallow network of these incoming vectors and that fit, its linear map left out."""
    cast = lambda array: jnp.asarray(array, dtype)
    hidden = Layer(cast(vectors[:, :-1]), cast(vectors[:, -1]))
    return Network((hidden, Layer(cast(fit.a), cast(fit.c))), activation)


def vectors_of(net: Network) -> Vectors:
    """Incoming weight vectors of a shallow network's neurons, bias last, in float64."""
    hidden = net.layers[0]
    return np.concatenate([np.asarray(hidden.w, float), np.asarray(hidden.b, float)[:, None]], axis=1)


def leaves_linear_map(activation: Activation) -> bool:
    """Whether a change of sign leaves a linear map behind, so that signs have to be resolved."""
    return activation.symmetry.parity != 0 and activation.symmetry.linear != 0


def linear_inputs(x: Inputs, activation: Activation) -> Float[np.ndarray, "samples n_inputs"]:
    """The queries where neurons of open sign may need a linear map of them, else no columns at all."""
    return np.asarray(x, float)[:, slice(None) if leaves_linear_map(activation) else slice(0)]


def likely_signs(
    vectors: Vectors, fit: OutputFit, x: Inputs, activation: Activation, *, n_best: int = 1
) -> list[tuple[Float[np.ndarray, " width"], float]]:
    """Sign changes that explain the linear map of a fit, most likely first.

    Args:
        vectors: Incoming weight vectors as they were found.
        fit: Least squares with a linear map.
        x: Queries; a linear map counts by what it does to them.
        activation: Of the neurons.
        n_best: How many combinations to return; one, the rounded solution, beyond 16 neurons.

    Returns:
        Pairs of a sign (+1 or -1) for every neuron, and the rms over the queries of the linear map that is left.
    """
    symmetry, width = activation.symmetry, len(vectors)
    centred = np.asarray(x, float) - np.asarray(x, float).mean(0)
    root = np.linalg.qr(centred, mode="r") / np.sqrt(len(x))  # |root u| is the rms of u.x over the queries
    # A wrong sign leaves symmetry.linear * parity * a z: one column a neuron, one row an output and input direction.
    maps = symmetry.linear * symmetry.parity * np.einsum("oi,ik->oki", fit.a, vectors[:, :-1] @ root.T)
    maps, target = maps.reshape(-1, width), (fit.linear @ root.T).reshape(-1)
    if width <= _ALL_SIGNS_UP_TO:
        flips = (np.arange(2**width)[:, None] >> np.arange(width)) & 1
    else:
        solution, *_ = np.linalg.lstsq(maps, target, rcond=None)
        flips = (solution > 0.5).astype(int)[None]
    gram, pull = maps.T @ maps, maps.T @ target
    square = np.einsum("fi,ij,fj->f", flips, gram, flips, optimize=True) - 2 * flips @ pull
    best = np.argsort(square, kind="stable")[:n_best]
    left = np.linalg.norm(flips[best] @ maps.T - target, axis=1)
    return [(1.0 - 2.0 * flips[i], float(rms)) for i, rms in zip(best, left, strict=True)]


def contributions(net: Network, x: Inputs) -> Float[np.ndarray, " width"]:
    """How much every hidden neuron moves the outputs over the queries: rms over samples and outputs, less its mean."""
    phi = responses(vectors_of(net), x, net.activation)
    a = np.asarray(net.layers[1].w, float)
    return np.linalg.norm(a, axis=0) * phi.std(0) / np.sqrt(a.shape[0])
