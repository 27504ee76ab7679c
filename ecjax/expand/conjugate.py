"""Levenberg-Marquardt without a matrix: steps by conjugate gradients, for networks with thousands of parameters.

A step solves (J^T J + lambda I) step = -J^T r with products J v and J^T u alone, which cost as much as a gradient each.
Real inputs make J^T J badly conditioned: pixels that hardly ever light up, neurons that are hardly ever active. The
preconditioner knows most of that. With h the inputs of a layer (a 1 appended) and d the derivatives of the answers by
its pre-activations, the block of J^T J that belongs to the layer's weights is the mean of (d d^T) x (h h^T), and

    mean(d d^T) x mean(h h^T)

is inverted through the eigenvectors of its two factors.

Source: Martens and Grosse, ICML 2015 (arXiv:1503.05671), for the Kronecker factors, there of the Fisher matrix.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optimistix as optx
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float

from ..imitation import Inputs, Theta, flatten
from ..networks import Layer, Network

# Products with J^T J in a step, and the norm of the linear residual, in that of the gradient, at which to stop before.
_MAX_PRODUCTS = 100
_TOLERANCE = 1e-2
# Damping in proportion to the norm of the residuals: then steps grow by themselves near an exact network, and the
# way to it is quadratic (Fan and Yuan, Computing 74, 2005). The factor suits targets of unit variance.
_DAMPING = 1e-2


class Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors of a symmetric positive semidefinite matrix."""

    values: Float[Array, " n"]
    vectors: Float[Array, "n n"]


def spectrum(matrix: Float[Array, "n n"]) -> Spectrum:
    """Of a symmetric matrix that is positive semidefinite but for rounding."""
    values, vectors = jnp.linalg.eigh(matrix)
    return Spectrum(jnp.maximum(values, 0), vectors)


def second_moment(h: Float[Array, "samples n"]) -> Float[Array, "n_1 n_1"]:
    """Mean of h h^T, a 1 appended to h."""
    h = jnp.concatenate([h, jnp.ones_like(h[:, :1])], axis=1)
    return h.T @ h / len(h)


def kronecker_factors(net: Network, x: Inputs, of_inputs: Spectrum) -> list[tuple[Spectrum, Spectrum]]:
    """The two factors of each layer, first to last: over its neurons, and over its inputs and bias.

    Args:
        net: One network of any depth.
        x: Queries.
        of_inputs: The first layer's second factor, which no step changes.
    """
    *hidden, output = net.layers
    h, z, over_inputs = x, [], [of_inputs]
    for layer in hidden:
        z.append(h @ layer.w.T + layer.b[None])
        h = net.activation(z[-1])
        over_inputs.append(spectrum(second_moment(h)))
    fan_out = len(output.b)
    derivative = jnp.eye(fan_out, dtype=x.dtype)[:, None]  # answers, samples, neurons
    over_neurons = [spectrum(derivative[:, 0] / fan_out)]
    for layer, at in zip(reversed(net.layers[1:]), reversed(z), strict=True):
        derivative = (derivative @ layer.w) * net.activation.d1(at)[None]
        flat = derivative.reshape(-1, derivative.shape[-1])
        over_neurons.insert(0, spectrum(flat.T @ flat / (len(x) * fan_out)))
    return list(zip(over_neurons, over_inputs, strict=True))


def precondition(factors: list[tuple[Spectrum, Spectrum]], damping: Float[Array, ""], net: Network) -> Network:
    """(factor x factor + damping I)^-1 of something shaped like a network, layer by layer."""

    def solve(layer: Layer, neurons: Spectrum, inputs: Spectrum) -> Layer:
        turned = neurons.vectors.T @ jnp.concatenate([layer.w, layer.b[:, None]], axis=1) @ inputs.vectors
        turned = turned / (neurons.values[:, None] * inputs.values[None] + damping)
        solved = neurons.vectors @ turned @ inputs.vectors.T
        return Layer(solved[:, :-1], solved[:, -1])

    layers = (solve(layer, *pair) for layer, pair in zip(net.layers, factors, strict=True))
    return Network(tuple(layers), net.activation)


class _At(NamedTuple):
    """Where a step starts from."""

    theta: Theta
    error: Float[Array, ""]  # norm of the residuals: root of the loss
    gradient: Theta
    factors: list[tuple[Spectrum, Spectrum]]


class ConjugateDescent(optx.AbstractDescent):
    """-(J^T J + lambda I)^-1 J^T r by preconditioned conjugate gradients, lambda = |r| / 100 / step size."""

    like: Network
    x: Inputs
    free: Bool[Array, " parameters"]
    of_inputs: Spectrum

    def init(self, y, f_info_struct):
        shapes = jax.eval_shape(self._factors, y)  # the first query fills them
        return _At(y, jnp.zeros((), y.dtype), y, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))

    def query(self, y, f_info, state):
        return _At(y, jnp.linalg.norm(f_info.residual), f_info.compute_grad(), self._factors(y))

    def step(self, step_size, state):
        damping = _DAMPING * state.error / step_size
        _, unflatten = flatten(self.like)
        _, along = jax.linearize(answer_field(self.like, self.x), state.theta)
        back = jax.linear_transpose(along, state.theta)
        freed = lambda v: jnp.where(self.free, v, 0)
        step, _ = cg(
            lambda v: freed(back(along(v))[0]) + damping * v,
            -state.gradient,
            M=lambda v: freed(flatten(precondition(state.factors, damping, unflatten(v)))[0]),
            tol=_TOLERANCE,
            maxiter=_MAX_PRODUCTS,
        )
        return step, optx.RESULTS.successful

    def _factors(self, theta):
        return kronecker_factors(flatten(self.like)[1](theta), self.x, self.of_inputs)


class ConjugateNewton(optx.AbstractGaussNewton):
    """Optimistix's Gauss-Newton loop with `ConjugateDescent` in a trust region."""

    descent: ConjugateDescent
    search: optx.ClassicalTrustRegion
    rtol: float = 0.0
    atol: float = 0.0
    norm: Callable = optx.max_norm
    verbose: Callable = lambda **_: None


def conjugate_newton(
    like: Network, x: Inputs, free: Bool[Array, " parameters"], search: optx.ClassicalTrustRegion
) -> ConjugateNewton:
    """The solver for students of this shape on these queries, some of whose parameters may be frozen."""
    return ConjugateNewton(descent=ConjugateDescent(like, x, free, spectrum(second_moment(x))), search=search)


def answer_field(like: Network, x: Inputs) -> Callable[[Theta], Float[Array, " answers"]]:
    """The answers as a function of theta, scaled so that squares of their errors add up to the loss.

    Differentiated by plain autodiff, which never writes the Jacobian down; compare `imitation.residual_field`.
    """
    _, unflatten = flatten(like)
    scale = 1 / math.sqrt(len(x) * like.shape[-1])

    def field(theta):
        *hidden, output = unflatten(theta).layers
        h = x
        for layer in hidden:
            h = like.activation(h @ layer.w.T + layer.b[None])
        return scale * (h @ output.w.T + output.b[None]).reshape(-1)

    return field
