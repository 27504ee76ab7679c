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

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optimistix as optx
from jax.scipy.linalg import cho_factor, cho_solve
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float

from ..network import Layer, Network, hidden_states
from ..objective import Inputs, Outputs, Samples, Theta, flatten
from ..objective.derivatives import sensitivities
from .descent import Descent, Free, GaussNewton, Search, Trust, require

# Products with J^T J in a step, and the norm of the linear residual, in that of the gradient, at which to stop before.
_MAX_PRODUCTS = 200
_TOLERANCE = 1e-2
# Damping in proportion to the norm of the residuals: then steps grow by themselves near an exact network, and the
# way to it is quadratic (Fan and Yuan, Computing 74, 2005). The factor suits targets of unit variance.
DAMPING = 1e-2


@dataclass(frozen=True)
class Conjugate(Descent):
    """Levenberg-Marquardt by conjugate gradients on samples; the whole output layer is fitted, frozen or not."""

    def search(self, like: Network, objective: Any, free: Free) -> Search:
        require(objective, Samples, self)
        descent = ConjugateStep(like, objective, free, spectrum(second_moment(objective.x)))
        return Search(fit_field(like, objective), optx.least_squares, GaussNewton(descent=descent, search=Trust()))

    def finish(self, net: Network, objective: Any) -> Network:
        return fitted(net, objective)[0]


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


def kronecker_factors(net: Network, x: Inputs, of_inputs: Spectrum, free: Network) -> list[tuple[Spectrum, Spectrum]]:
    """The two factors of each layer, first to last: over its neurons (or the outputs), and over its inputs and bias.

    Args:
        net: One network of any depth.
        x: Queries.
        of_inputs: The first layer's second factor, which no step changes.
        free: Which weights may move, as 0 and 1. Neurons that nobody may hear any other way do not count: silent ones,
            whose responses are all the same, would be copies of the bias, and the preconditioner wrong for that.
    """
    states = hidden_states(net, x)
    heard = [jnp.any(above.w > 0, axis=0).astype(x.dtype) for above in free.layers[1:]]
    over_inputs = [
        of_inputs,
        *(spectrum(second_moment(state.h * one[None])) for state, one in zip(states, heard, strict=True)),
    ]
    flat = (by_z.reshape(-1, by_z.shape[-1]) for by_z in sensitivities(net, states))
    over_neurons = [spectrum(rows.T @ rows / len(rows)) for rows in flat]
    fan_out = len(net.output.b)
    of_outputs = Spectrum(jnp.full(fan_out, 1 / fan_out, x.dtype), jnp.eye(fan_out, dtype=x.dtype))
    return list(zip([*over_neurons, of_outputs], over_inputs, strict=True))


def precondition(factors: list[tuple[Spectrum, Spectrum]], damping: Float[Array, ""], net: Network) -> Network:
    """(factor x factor + damping I)^-1 of something shaped like a network, layer by layer."""

    def solve(layer: Layer, neurons: Spectrum, inputs: Spectrum) -> Layer:
        turned = neurons.vectors.T @ jnp.concatenate([layer.w, layer.b[:, None]], axis=1) @ inputs.vectors
        turned = turned / (neurons.values[:, None] * inputs.values[None] + damping)
        solved = neurons.vectors @ turned @ inputs.vectors.T
        return replace(layer, w=solved[:, :-1], b=solved[:, -1])

    return Network(tuple(solve(layer, *pair) for layer, pair in zip(net.layers, factors, strict=True)))


def _hidden(net: Network) -> Network:
    """Nothing in the output layer, which is fitted."""
    return Network((*net.hidden, jax.tree.map(jnp.zeros_like, net.output)))


class At(NamedTuple):
    """Where a step starts from."""

    theta: Theta
    error: Float[Array, ""]  # norm of the residuals: root of the loss
    gradient: Theta
    factors: list[tuple[Spectrum, Spectrum]]


class PreconditionedStep(optx.AbstractDescent):
    """-(J^T J + lambda I)^-1 J^T r by preconditioned conjugate gradients, lambda = |r| / 100 / step size."""

    like: Network
    samples: Samples
    free: Free
    of_inputs: Spectrum

    def init(self, y, f_info_struct):
        shapes = jax.eval_shape(self.factors, y)  # the first query fills them
        return At(y, jnp.zeros((), y.dtype), y, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))

    def query(self, y, f_info, state):
        return At(y, jnp.linalg.norm(f_info.residual), f_info.compute_grad(), self.factors(y))

    def moving(self) -> Network:
        """Which weights may move, as 0 and 1 in the shape of a network."""
        theta, unflatten = flatten(self.like)
        return unflatten(self.free.astype(theta.dtype))

    @abstractmethod
    def factors(self, theta: Theta) -> list[tuple[Spectrum, Spectrum]]:
        """Those of the preconditioner at these weights."""


class ConjugateStep(PreconditionedStep):
    """To the end, with the output layer fitted wherever the step leads."""

    def step(self, step_size, state):
        damping = DAMPING * state.error / step_size
        _, unflatten = flatten(self.like)
        _, along = jax.linearize(fit_field(self.like, self.samples), state.theta)
        back = jax.linear_transpose(along, state.theta)
        freed = lambda v: jnp.where(self.free, v, 0)
        step, _ = cg(
            lambda v: freed(back(along(v))[0]) + damping * v,
            freed(-state.gradient),
            M=lambda v: freed(flatten(_hidden(precondition(state.factors, damping, unflatten(v))))[0]),
            tol=_TOLERANCE,
            maxiter=_MAX_PRODUCTS,
        )
        return step, optx.RESULTS.successful

    def factors(self, theta):
        net, _ = fitted(flatten(self.like)[1](theta), self.samples)
        return kronecker_factors(net, self.samples.x, self.of_inputs, self.moving())


# --- variable projection -------------------------------------------------------------------------------------------


def fitted(net: Network, samples: Samples) -> tuple[Network, Outputs]:
    """The network with the output layer that fits the targets best, and what it then answers too much.

    Least squares by normal equations, made good for by a second solve; differentiable.
    """
    h = _with_bias(hidden_states(net, samples.x)[-1].h)
    size = jax.lax.stop_gradient(jnp.linalg.norm(h, axis=0) + jnp.finfo(h.dtype).tiny)
    h = h / size[None]
    counted = h if samples.weights is None else h * samples.share * samples.y.size
    ridge = 100 * len(size) * jnp.finfo(h.dtype).eps  # copies of a neuron share its outgoing weights
    factor = cho_factor(h.T @ counted + ridge * jnp.eye(len(size), dtype=h.dtype))
    solution = cho_solve(factor, counted.T @ samples.y)
    solution = solution + cho_solve(factor, counted.T @ (samples.y - h @ solution))
    weights = solution / size[:, None]
    output = replace(net.output, w=weights[:-1].T, b=weights[-1])
    return Network((*net.hidden, output)), h @ solution - samples.y


def fit_field(like: Network, samples: Samples) -> Callable[[Theta], Float[Array, " residuals"]]:
    """The residuals with the best output layer as a function of theta; their squares add up to the loss.

    Differentiated by plain autodiff, which never writes the Jacobian down.
    """
    _, unflatten = flatten(like)
    return lambda theta: (jnp.sqrt(samples.share) * fitted(unflatten(theta), samples)[1]).reshape(-1)


def _with_bias(h):
    return jnp.concatenate([h, jnp.ones_like(h[:, :1])], axis=1)
