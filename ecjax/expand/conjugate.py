"""Levenberg-Marquardt without a matrix: steps by conjugate gradients, for networks with thousands of parameters.

Given the hidden layers, the best output layer is a linear least squares fit; so only the hidden weights are free, and
the residuals are those of that fit (variable projection). A change of incoming weights that outgoing weights can make
good for then costs nothing on the way, and steps may be long.

A step solves (J^T J + lambda D) step = -J^T r with products J v and J^T u alone, which cost as much as a gradient each.
Real inputs make J^T J badly conditioned: pixels that hardly ever light up, neurons that are hardly ever active. The
preconditioner knows most of that. With h the inputs of a layer (a 1 appended) and d the derivatives of the answers by
its pre-activations, the block of J^T J that belongs to the layer's weights is the mean of (d d^T) x (h h^T), about

    A x H = mean(d d^T) x mean(h h^T),

two small matrices. D is diag(A) x H: a change of a weight counts by the pre-activations that it changes, and these by
what they do to the answers, since that is what makes a step too long for its linear model.

Sources: Martens and Grosse, ICML 2015 (arXiv:1503.05671), for the Kronecker factors, there of the Fisher matrix; Golub
    and Pereyra, SIAM J. Numer. Anal. 10, 1973, for variable projection.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optimistix as optx
from jax.scipy.linalg import cho_factor, cho_solve
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float

from ..imitation import Inputs, Outputs, Theta, flatten
from ..networks import Layer, Network

# Products with J^T J in a step, and the norm of the linear residual, in that of the gradient, at which to stop before.
_MAX_PRODUCTS = 200
_TOLERANCE = 1e-2
# Damping in proportion to the norm of the residuals: then steps grow by themselves near an exact network, and the
# way to it is quadratic (Fan and Yuan, Computing 74, 2005). The factor suits targets of unit variance.
_DAMPING = 0.1


class Factors(NamedTuple):
    """A and H of a hidden layer."""

    over_neurons: Float[Array, "width width"]
    over_inputs: Float[Array, "fan_in_1 fan_in_1"]


def second_moment(h: Float[Array, "samples n"]) -> Float[Array, "n_1 n_1"]:
    """Mean of h h^T, a 1 appended to h."""
    h = _with_bias(h)
    return h.T @ h / len(h)


def kronecker_factors(net: Network, x: Inputs) -> list[Factors]:
    """The factors of each hidden layer, first to last.

    Args:
        net: One network of any depth.
        x: Queries.
    """
    *hidden, output = net.layers
    h, z, over_inputs = x, [], []
    for layer in hidden:
        over_inputs.append(second_moment(h))
        z.append(h @ layer.w.T + layer.b[None])
        h = net.activation(z[-1])
    fan_out = len(output.b)
    derivative = jnp.eye(fan_out, dtype=x.dtype)[:, None]  # answers, samples, neurons
    over_neurons = []
    for layer, at in zip(reversed(net.layers[1:]), reversed(z), strict=True):
        derivative = (derivative @ layer.w) * net.activation.d1(at)[None]
        flat = derivative.reshape(-1, derivative.shape[-1])
        over_neurons.insert(0, flat.T @ flat / (len(x) * fan_out))
    return [Factors(*pair) for pair in zip(over_neurons, over_inputs, strict=True)]


def damp(factors: list[Factors], damping: Float[Array, ""], net: Network) -> Network:
    """damping D times something shaped like a network; nothing in the output layer."""

    def scale(layer: Layer, of: Factors) -> Layer:
        return _as_layer(damping * jnp.diag(of.over_neurons)[:, None] * (_as_matrix(layer) @ of.over_inputs))

    return _hidden_layers(scale, net, factors)


def preconditioner(factors: list[Factors], damping: Float[Array, ""]) -> Callable[[Network], Network]:
    """((A + damping diag(A)) x H)^-1 of something shaped like a network, layer by layer; nothing in the output layer.

    Neurons that nobody listens to and inputs that hardly vary make A and H singular: a little of a unit matrix is
    added to both.
    """
    inverses = [
        (_inverse(of.over_neurons + damping * jnp.diag(jnp.diag(of.over_neurons))), _inverse(of.over_inputs))
        for of in factors
    ]

    def solve(layer: Layer, inverse) -> Layer:
        over_neurons, over_inputs = inverse
        return _as_layer(over_inputs(over_neurons(_as_matrix(layer)).T).T)

    return lambda net: _hidden_layers(solve, net, inverses)


def _inverse(matrix: Float[Array, "n n"]):
    eps, tiny = jnp.finfo(matrix.dtype).eps, jnp.finfo(matrix.dtype).tiny
    floor = jnp.sqrt(eps) * jnp.mean(jnp.diag(matrix)) + tiny
    factor = cho_factor(matrix + floor * jnp.eye(len(matrix), dtype=matrix.dtype))
    return lambda right: cho_solve(factor, right)


def _hidden_layers(change: Callable[[Layer, Any], Layer], net: Network, each: list[Any]) -> Network:
    *hidden, output = net.layers
    layers = (change(layer, its) for layer, its in zip(hidden, each, strict=True))
    return Network((*layers, jax.tree.map(jnp.zeros_like, output)), net.activation)


def _with_bias(h):
    return jnp.concatenate([h, jnp.ones_like(h[:, :1])], axis=1)


def _as_matrix(layer: Layer) -> Float[Array, "width fan_in_1"]:
    return jnp.concatenate([layer.w, layer.b[:, None]], axis=1)


def _as_layer(matrix: Float[Array, "width fan_in_1"]) -> Layer:
    return Layer(matrix[:, :-1], matrix[:, -1])


# --- variable projection -------------------------------------------------------------------------------------------


def fitted(net: Network, x: Inputs, y: Outputs) -> tuple[Network, Outputs]:
    """The network with the output layer that fits the targets best, and what it answers too much.

    Least squares by normal equations, made good for by a second solve; differentiable.
    """
    h = x
    for layer in net.layers[:-1]:
        h = net.activation(h @ layer.w.T + layer.b[None])
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


# --- the step ------------------------------------------------------------------------------------------------------


class _At(NamedTuple):
    """Where a step starts from."""

    theta: Theta
    error: Float[Array, ""]  # norm of the residuals: root of the loss
    gradient: Theta


class ConjugateDescent(optx.AbstractDescent):
    """-(J^T J + lambda D)^-1 J^T r by preconditioned conjugate gradients, lambda = |r| / 10 / step size."""

    like: Network
    x: Inputs
    y: Outputs
    free: Bool[Array, " parameters"]

    def init(self, y, f_info_struct):
        return _At(y, jnp.zeros((), y.dtype), y)  # the first query fills it

    def query(self, y, f_info, state):
        return _At(y, jnp.linalg.norm(f_info.residual), f_info.compute_grad())

    def step(self, step_size, state):
        damping = _DAMPING * state.error / step_size
        _, unflatten = flatten(self.like)
        _, along = jax.linearize(fit_field(self.like, self.x, self.y), state.theta)
        back = jax.linear_transpose(along, state.theta)
        factors = kronecker_factors(fitted(unflatten(state.theta), self.x, self.y)[0], self.x)
        damped, solved = partial(damp, factors, damping), preconditioner(factors, damping)
        on_theta = lambda change, v: flatten(change(unflatten(v)))[0]
        freed = lambda v: jnp.where(self.free, v, 0)
        step, _ = cg(
            lambda v: freed(back(along(v))[0] + on_theta(damped, v)),
            freed(-state.gradient),
            M=lambda v: freed(on_theta(solved, v)),
            tol=_TOLERANCE,
            maxiter=_MAX_PRODUCTS,
        )
        return step, optx.RESULTS.successful


class ConjugateNewton(optx.AbstractGaussNewton):
    """Optimistix's Gauss-Newton loop with `ConjugateDescent` in a trust region."""

    descent: ConjugateDescent
    search: optx.ClassicalTrustRegion
    rtol: float = 0.0
    atol: float = 0.0
    norm: Callable = optx.max_norm
    verbose: Callable[..., Any] = lambda **_: None


def conjugate_newton(
    like: Network, x: Inputs, y: Outputs, free: Bool[Array, " parameters"], search: optx.ClassicalTrustRegion
) -> ConjugateNewton:
    """The solver of `fit_field` for networks of this shape; some of the hidden layers' parameters may be frozen."""
    return ConjugateNewton(descent=ConjugateDescent(like, x, y, free), search=search)
