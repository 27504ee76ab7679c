"""How far errors in the answers move the weights: standard errors of least squares, a number for every weight and bias.

With J_k the Jacobian of output k, w_k the weight its squared error has in the fit and C the covariance of the errors,

    H = sum_k w_k J_k^T J_k,    M = sum_kl w_k C_kl w_l J_k^T J_l,    covariance = H^+ M H^+

which is s^2 (J^T J)^-1 for one output with errors of variance s^2. Where a neuron's scale is no one's to know, its
incoming vector has norm 1 and the errors are those along the sphere. Weights that no input can reveal have none: theirs
are infinite.

Source: asymptotic covariance of nonlinear least squares; White, Journal of the American Statistical Association 76
    (1981), 419, for errors of several variances.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import stdtrit

from ..network import Network, respond
from ..network.moves import with_unit_vectors
from ..network.symmetries import symmetries
from ..objective import Inputs, Outputs, flatten
from ..objective.variation import variation
from .jacobian import AT_ONCE, answers_by_weights, n_invisible


def standard_errors(
    network: Network,
    x: Inputs,
    y: Outputs,
    *,
    covariance: Float[np.ndarray, "fan_out fan_out"] | None = None,
    weights: Float[Array, " samples"] | None = None,
) -> Network:
    """Standard error of every weight and bias of a network that was fitted to erring answers by least squares.

    Args:
        network: At the minimum of the mean squared error, each output in units of its standard deviation.
        x: Queries.
        y: Answers.
        covariance: Of the errors of the outputs, in their units; by default that of the residuals, corrected for the
            number of parameters.
        weights: How much each row counted, the inverse of the variance of its errors in any unit.

    Returns:
        A network of the same shape with a standard error in the place of every number.

    Raises:
        ValueError: If there are no more answers than parameters.
    """
    n, fan_out = y.shape
    p = network.n_parameters
    n_unseen = n_invisible(network, x)
    if y.size <= p:
        raise ValueError(f"`y` has {y.size} numbers for {p} parameters: their errors can't be told.")
    weight = 1 / np.asarray(y, float).var(axis=0)
    rows = np.ones(n) if weights is None else np.asarray(weights, float)
    root = np.sqrt(rows / rows.mean())[:, None]
    size = max(1, int(AT_ONCE / (p * fan_out)))
    pieces = [slice(start, start + size) for start in range(0, n, size)]
    if covariance is None:
        left = root * (np.asarray(respond(network, x), float) - np.asarray(y, float))
        covariance = left.T @ left / (n - (p - n_unseen) / fan_out)
    h, m = np.zeros((p, p)), np.zeros((p, p))
    among = weight[:, None] * covariance * weight
    for some in pieces:
        j = root[some, :, None] * np.asarray(answers_by_weights(network, x[some]), float)
        h += np.einsum("nkp,k,nkq->pq", j, weight, j, optimize=True)
        m += np.einsum("nkp,kl,nlq->pq", j, among, j, optimize=True)
    unit = np.sqrt(np.diagonal(h))
    unit = np.where(unit > 0, unit, 1)
    values, vectors = np.linalg.eigh(h / np.outer(unit, unit))
    inverse = vectors[:, n_unseen:] / values[n_unseen:] @ vectors[:, n_unseen:].T / np.outer(unit, unit)
    of_weights = inverse @ m @ inverse
    theta, unflatten = flatten(network)
    homogeneous = any(symmetries(layer.activation, len(layer.b)).homogeneous.any() for layer in network.hidden)
    if homogeneous:
        gauge = jax.jacobian(lambda theta: flatten(with_unit_vectors(unflatten(theta)))[0])(theta)
        of_weights = np.asarray(gauge, float) @ of_weights @ np.asarray(gauge, float).T
    errors = unflatten(jnp.asarray(np.sqrt(np.maximum(np.diagonal(of_weights), 0)), theta.dtype))
    return _without_unseen(errors, x)


def half_widths(errors: Network, n_numbers: int, *, level: float = 0.95) -> Network:
    """Half of the width of each weight's confidence interval.

    Args:
        errors: Standard errors.
        n_numbers: That were explained.
        level: Of confidence.

    Raises:
        ValueError: If the level is none.
    """
    if not 0 < level < 1:
        raise ValueError(f"`level` is between 0 and 1; got {level:g}.")
    quantile = float(stdtrit(n_numbers - errors.n_parameters, (1 + level) / 2))
    return jax.tree.map(lambda leaf: quantile * leaf, errors)


def _without_unseen(errors: Network, x: Inputs) -> Network:
    """Weights of inputs that never vary are set to 0, whatever they were."""
    constant = variation(x).constant
    if not constant.any():
        return errors
    first = errors.layers[0]
    w = jnp.where(jnp.asarray(constant)[None], jnp.inf, first.w)
    return Network((type(first)(w, first.b, first.activation), *errors.layers[1:]))
