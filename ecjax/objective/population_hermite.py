"""Expectations of products of two smooth neurons of Gaussian inputs, by their Hermite coefficients.

With z_k = mu_k + sigma_k u and orthonormal Hermite polynomials h_j,

    phi_k(z_k) = sum over j of c_kj h_j(u),    E[phi_k(z_k) phi_l(z_l)] = sum over j of rho_kl^j c_kj c_lj   (Mehler)

so that a one-dimensional quadrature for each neuron serves all pairs, where tensor rules in the plane of (z_k, z_l)
take one of two dimensions for each pair. Derivatives of z shift the index: the coefficients of sigma phi' are
sqrt(j + 1) c_(j + 1). Coefficients of functions that are analytic in a strip of half-width d fall as
exp(-d sqrt(2 j) / sigma), and enter squared.

The quadrature is the trapezoidal rule, whose error falls geometrically with the number of nodes, while that of
Gauss-Hermite falls with its square root only (Trefethen, SIAM Review 64, 2022, section 5).
"""

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..network import LayerActivation

# The square root of the normal density at this end is 1e-17, and that is what a coefficient's integrand has left.
_REACH = 12.5
# For each order: a node resolves an oscillation of h_J, of wave number sqrt(J), with room for the function's own.
_NODES_LEAST, _NODES_FOR_ORDER = 600, 1.2


@functools.lru_cache(maxsize=8)
def _rule(order: int) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, "nodes order"]]:
    """Nodes u, and weights that make coefficients of values at them."""
    n = int(max(_NODES_LEAST, _NODES_FOR_ORDER * order)) | 1
    u = np.linspace(-_REACH, _REACH, n)
    root = np.exp(-(u**2) / 4) / (2 * np.pi) ** 0.25
    functions = np.empty((order, n))
    functions[0] = root
    functions[1] = u * root
    for j in range(1, order - 1):
        functions[j + 1] = (u * functions[j] - math.sqrt(j) * functions[j - 1]) / math.sqrt(j + 1)
    return u, (functions * root * (u[1] - u[0])).T


Coefficients = Float[Array, "derivatives width order"]  # of phi, phi', phi'', sigma phi''', sigma^2 phi''''


def coefficients(
    activation: LayerActivation, mean: Float[Array, " width"], sigma: Float[Array, " width"], order: int
) -> Coefficients:
    """Of the neurons of a layer and of their derivatives, up to the fourth."""
    u, weights = (jnp.asarray(each, mean.dtype) for each in _rule(order))
    z = (mean[:, None] + sigma[:, None] * u[None]).T
    values = jnp.stack([_at(activation, derivative, z).T for derivative in ("fn", "d1", "d2")])
    plain = values @ weights
    shifted = [plain[2]]
    for _ in range(2):
        upper = jnp.sqrt(jnp.arange(1, order, dtype=mean.dtype))[None] * shifted[-1][:, 1:]
        shifted.append(jnp.pad(upper, ((0, 0), (0, 1))))
    return jnp.concatenate([plain, jnp.stack(shifted[1:])])


def _at(activation: LayerActivation, derivative: str, z: Float[Array, "nodes width"]) -> Float[Array, "nodes width"]:
    which = {"fn": lambda one: one.fn, "d1": lambda one: one.d1, "d2": lambda one: one.d2}[derivative]
    parts = [(which(one)(z[:, members]), members) for one, members in activation.groups(z.shape[1])]
    order = np.argsort(np.concatenate([members for _, members in parts]), kind="stable")
    return jnp.concatenate([part for part, _ in parts], axis=1)[:, order]


def products(
    one: Coefficients,
    other: Float[Array, "derivatives others order"],
    rho: Float[Array, "width others"],
    which: Sequence[tuple[int, int]],
) -> list[Float[Array, "width others"]]:
    """E[phi_k^(p) phi_l^(q)] for pairs (p, q) of derivatives, with sigma for each one beyond the second."""
    powers = jnp.cumprod(jnp.concatenate([jnp.ones_like(rho)[..., None], _repeated(rho, one.shape[-1] - 1)], -1), -1)
    # The product of powers and one factor is shared by pairs with the same p.
    weighted = {p: powers * one[p][:, None] for p in {p for p, _ in which}}
    return [jnp.einsum("klj,lj->kl", weighted[p], other[q]) for p, q in which]


def _repeated(rho: Float[Array, "width others"], n: int) -> Float[Array, "width others n"]:
    return jnp.broadcast_to(rho[..., None], (*rho.shape, n))
