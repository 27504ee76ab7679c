"""Levenberg-Marquardt without a matrix: steps by conjugate gradients, for networks with thousands of parameters.

Given the hidden layers, the best output layer is a linear least squares fit; so only the hidden weights are free, and
the residuals are those of that fit (variable projection). Nearly linear neurons trade their outgoing weights against
incoming ones along bent valleys, in which a step that changes both would have to be short.

A step solves (J^T J + lambda I) step = -J^T r with products J v and J^T u alone, which cost as much as a gradient each.
Real inputs make J^T J badly conditioned: pixels that hardly ever light up, neurons that are hardly ever active. The
preconditioner knows most of that. With h the inputs of a layer (a 1 appended) and d the derivatives of the answers by
its pre-activations, the block of J^T J that belongs to the layer's weights is the mean of (d d^T) x (h h^T), about

    mean(d d^T) x mean(h h^T),

which is inverted through the eigenvectors of its two factors.

Damping by the pre-activations that a step changes, D = diag(mean(d d^T)) x mean(h h^T) in the place of I, was tried and
left: it protects only the mean over the queries, and the few that light up a rare pixel leave their linear model.

Sources: Martens and Grosse, ICML 2015 (arXiv:1503.05671), for the Kronecker factors, there of the Fisher matrix; Golub
    and Pereyra, SIAM Journal on Numerical Analysis 10 (1973), for variable projection.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optimistix as optx
from jax.scipy.linalg import cho_factor, cho_solve
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float

from ..network.networks import Layer, Network
from ..objective.imitation import Inputs, Outputs, Theta, flatten

# Products with J^T J in a step, and the norm of the linear residual, in that of the gradient, at which to stop before.
_MAX_PRODUCTS = 200
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
    h = _with_bias(h)
    return h.T @ h / len(h)


def kronecker_factors(net: Network, x: Inputs, of_inputs: Spectrum) -> list[tuple[Spectrum, Spectrum]]:
    """The two factors of each hidden layer, first to last: over its neurons, and over its inputs and bias.

    Args:
        net: One network of any depth.
        x: Queries.
        of_inputs: The first layer's second factor, which no step changes.
    """
    *hidden, output = net.layers
    h, z, over_inputs = x, [], []
    for layer in hidden:
        over_inputs.append(spectrum(second_moment(h)) if z else of_inputs)
        z.append(layer(h))
        h = net.activation(z[-1])
    fan_out = len(output.b)
    derivative = jnp.eye(fan_out, dtype=x.dtype)[:, None]  # answers, samples, neurons
    over_neurons = []
    for layer, at in zip(reversed(net.layers[1:]), reversed(z), strict=True):
        derivative = (derivative @ layer.w) * net.activation.d1(at)[None]
        flat = derivative.reshape(-1, derivative.shape[-1])
        over_neurons.insert(0, spectrum(flat.T @ flat / (len(x) * fan_out)))
    return list(zip(over_neurons, over_inputs, strict=True))


def precondition(factors: list[tuple[Spectrum, Spectrum]], damping: Float[Array, ""], net: Network) -> Network:
    """(factor x factor + damping I)^-1 of something shaped like a network, by hidden layers; 0 in the output layer."""

    def solve(layer: Layer, neurons: Spectrum, inputs: Spectrum) -> Layer:
        turned = neurons.vectors.T @ jnp.concatenate([layer.w, layer.b[:, None]], axis=1) @ inputs.vectors
        turned = turned / (neurons.values[:, None] * inputs.values[None] + damping)
        solved = neurons.vectors @ turned @ inputs.vectors.T
        return Layer(solved[:, :-1], solved[:, -1])

    *hidden, output = net.layers
    layers = (solve(layer, *pair) for layer, pair in zip(hidden, factors, strict=True))
    return Network((*layers, jax.tree.map(jnp.zeros_like, output)), net.activation)


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
    y: Outputs
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
        _, along = jax.linearize(fit_field(self.like, self.x, self.y), state.theta)
        back = jax.linear_transpose(along, state.theta)
        freed = lambda v: jnp.where(self.free, v, 0)
        step, _ = cg(
            lambda v: freed(back(along(v))[0]) + damping * v,
            freed(-state.gradient),
            M=lambda v: freed(flatten(precondition(state.factors, damping, unflatten(v)))[0]),
            tol=_TOLERANCE,
            maxiter=_MAX_PRODUCTS,
        )
        return step, optx.RESULTS.successful

    def _factors(self, theta):
        net, _ = fitted(flatten(self.like)[1](theta), self.x, self.y)
        return kronecker_factors(net, self.x, self.of_inputs)


class ConjugateNewton(optx.AbstractGaussNewton):
    """Optimistix's Gauss-Newton loop with `ConjugateDescent` in a trust region."""

    descent: ConjugateDescent
    search: optx.ClassicalTrustRegion
    rtol: float = 0.0
    atol: float = 0.0
    norm: Callable = optx.max_norm
    verbose: Callable = lambda **_: None


def conjugate_newton(
    like: Network, x: Inputs, y: Outputs, free: Bool[Array, " parameters"], search: optx.ClassicalTrustRegion
) -> ConjugateNewton:
    """The solver of `fit_field` for networks of this shape, some of whose hidden parameters may be frozen."""
    return ConjugateNewton(descent=ConjugateDescent(like, x, y, free, spectrum(second_moment(x))), search=search)


# --- variable projection -------------------------------------------------------------------------------------------


def fitted(net: Network, x: Inputs, y: Outputs) -> tuple[Network, Outputs]:
    """The network with the output layer that fits the targets best, and what it answers too much.

    Least squares by normal equations, made good for by a second solve; differentiable.
    """
    h = x
    for layer in net.layers[:-1]:
        h = net.activation(layer(h))
    h = _with_bias(h)
    scale = jax.lax.stop_gradient(jnp.linalg.norm(h, axis=0) + jnp.finfo(h.dtype).tiny)
    h = h / scale[None]
    ridge = 100 * len(scale) * jnp.finfo(h.dtype).eps  # copies of a neuron share its outgoing weights
    factor = cho_factor(h.T @ h + ridge * jnp.eye(len(scale), dtype=h.dtype))
    solution = cho_solve(factor, h.T @ y)
    solution = solution + cho_solve(factor, h.T @ (y - h @ solution))
    weights = solution / scale[:, None]
    return Network((*net.layers[:-1], Layer(weights[:-1].T, weights[-1])), net.activation), h @ solution - y


def fit_field(like: Network, x: Inputs, y: Outputs) -> Callable[[Theta], Float[Array, " residuals"]]:
    """The residuals with the best output layer as a function of theta, scaled so that squares add up to the loss.

    Differentiated by plain autodiff, which never writes the Jacobian down; compare `imitation.residual_field`.
    """
    _, unflatten = flatten(like)
    scale = 1 / math.sqrt(y.size)
    return lambda theta: scale * fitted(unflatten(theta), x, y)[1].reshape(-1)


def _with_bias(h):
    return jnp.concatenate([h, jnp.ones_like(h[:, :1])], axis=1)
