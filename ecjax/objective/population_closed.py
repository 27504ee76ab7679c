"""Expectations of products of two neurons of Gaussian inputs in closed form: relu, erf, the normal cdf, and any pair.

All of them are expectations of a ramp, a step, or a derivative of a step, at two jointly normal numbers. A relu is a
ramp of z. A normal cdf of c z is the probability that z plus an independent normal number of deviation 1/c is
positive: a step, of a number with a larger variance. With F^(a b) the expectation of the a-th derivative of a ramp at
z_1 times the b-th of one at z_2,

    F^11 = P(z_1 > 0, z_2 > 0)          F^21 = p(z_1 = 0) P(z_2 > 0 | z_1 = 0)         F^22 = p(z_1 = 0, z_2 = 0)
    F^20 = p(z_1 = 0) E[ramp(z_2) | z_1 = 0]                      F^(a+1 b) = d F^(a b) / d mean_1

and by Stein's lemma F^10 = mean_2 F^11 + S_12 F^21 + S_22 F^12, F^00 = mean_1 F^10 + S_11 F^20 + S_12 F^11. Without
biases F^00 and F^11 are the arc-cosine kernels (Cho and Saul, NeurIPS 2009).

The quadrant probability is Plackett's integral over the correlation (Drezner and Wesolowsky 1990), by a tanh-sinh rule:
its integrand has all of its derivatives vanish at a correlation of one, as close to it as the means are to each other.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Bool, Float

from ..network import Activation

Pairs = Float[Array, "width others"]


class Closed(NamedTuple):
    """An activation as scale * (a ramp or a step, at z plus noise) + constant."""

    is_step: bool
    scale: float = 1.0
    constant: float = 0.0
    noise: float = 0.0  # variance of what is added to z


CLOSED = {
    "relu": Closed(False),
    "normal_cdf": Closed(True, noise=1.0),
    "erf": Closed(True, scale=2.0, constant=-1.0, noise=0.5),
}
_LEAST_VARIANCE = 1e-30  # of a neuron without weights, so that z over its deviation is a number
# Two relus whose pre-activations have sqrt(1 - rho^2) below this are copies of each other, up to a scale. Of tables for
# value and gradient: rounding. For the Hessian, whose terms of order 1 / gap cancel, leaving eps / gap, and which
# differs from that of copies by the gap itself: where the two errors meet.
_COPIES, _COPIES_FOR_HESSIAN = 1e-14, 1e-8


def closed_form(activation: Activation) -> Closed | None:
    """Of an activation, if it has one here."""
    return CLOSED.get(activation.name)


class Normal(NamedTuple):
    """Means, variances and covariances of pairs of normal numbers."""

    mean: Pairs
    other_mean: Pairs
    variance: Pairs
    other_variance: Pairs
    covariance: Pairs
    gap: Pairs  # sqrt(1 - rho^2), without the cancellation near a correlation of one


def products(one: Closed, other: Closed, at: Normal, same: Bool[Array, "width others"], which) -> list[Pairs]:
    """E[phi_k^(p) phi_l^(q)] for pairs (p, q) of derivatives, with sigma for each one beyond the second.

    Args:
        one: The activation of the neurons k.
        other: Of the neurons l.
        at: Their pre-activations.
        same: Where k and l are the same neuron.
        which: Pairs (p, q).
    """
    noisy = at._replace(
        variance=jnp.maximum(at.variance + one.noise, _LEAST_VARIANCE),
        other_variance=jnp.maximum(at.other_variance + other.noise, _LEAST_VARIANCE),
    )
    ramps = not one.is_step and not other.is_step
    if not ramps:
        rho2 = noisy.covariance**2 / (noisy.variance * noisy.other_variance)
        noisy = noisy._replace(gap=jnp.sqrt(1 - rho2))  # at most 1 / (1 + noise)
    sigma, other_sigma = jnp.sqrt(jnp.maximum(at.variance, 0)), jnp.sqrt(jnp.maximum(at.other_variance, 0))
    tables = []
    for p, q in which:
        copies = same | ((at.gap < (_COPIES if p + q <= 2 else _COPIES_FOR_HESSIAN)) & (at.covariance > 0))
        apart = noisy
        if ramps:  # the formulas for pairs do not hold for a ramp and itself
            apart = noisy._replace(
                covariance=jnp.where(copies, 0, noisy.covariance), gap=jnp.where(copies, 1, noisy.gap)
            )
        table = one.scale * other.scale * _pair(p + one.is_step, q + other.is_step, apart)
        if q == 0 and other.constant:
            table = table + other.constant * one.scale * _single(p + one.is_step, noisy.mean, noisy.variance)
        if p == 0 and one.constant:
            single = _single(q + other.is_step, noisy.other_mean, noisy.other_variance)
            table = table + one.constant * other.scale * single
        if p == q == 0:
            table = table + one.constant * other.constant
        if ramps:
            scale = jnp.where(copies, jnp.sqrt(noisy.other_variance / noisy.variance), 1)
            table = jnp.where(copies, _ramp_with_itself(p, q, noisy.mean, noisy.variance) * scale ** (1 - q), table)
        tables.append(table * sigma ** max(p - 2, 0) * other_sigma ** max(q - 2, 0))
    return tables


def means(one: Closed, mean: Float[Array, " width"], variance: Float[Array, " width"]) -> list[Float[Array, " width"]]:
    """E[phi_k^(p)] for p from 0 to 4, with sigma for each derivative beyond the second."""
    noisy, sigma = jnp.maximum(variance + one.noise, _LEAST_VARIANCE), jnp.sqrt(jnp.maximum(variance, 0))
    found = [one.scale * _single(p + one.is_step, mean, noisy) * sigma ** max(p - 2, 0) for p in range(5)]
    return [found[0] + one.constant, *found[1:]]


# --- a ramp's derivatives at one number, and at two -----------------------------------------------------------------


def _density(h: Array) -> Array:
    return jnp.exp(-(h**2) / 2) / math.sqrt(2 * math.pi)


def _single(level: int, mean: Array, variance: Array) -> Array:
    """E of the derivative of a ramp at one normal number: ramp, step, delta and so on."""
    sigma = jnp.sqrt(variance)
    if level == 0:
        return mean * ndtr(mean / sigma) + sigma * _density(mean / sigma)
    if level == 1:
        return ndtr(mean / sigma)
    at_zero = lambda mean: _density(mean / sigma) / sigma
    return _derived(lambda mean, _: at_zero(mean), level - 2, 0)(mean, mean)


def _ramp_with_itself(p: int, q: int, mean: Array, variance: Array) -> Array:
    """E[phi^(p) phi^(q)] of one relu, whose products of a step and a delta are shared between the two factors.

    What is used of them are sums: the expectations of (phi' phi')', (phi' phi')'' and of the derivatives of
    phi'' phi = 0.
    """
    sigma, step = jnp.sqrt(variance), _single(1, mean, variance)
    delta, slope = _single(2, mean, variance), _single(3, mean, variance)
    return {
        (0, 0): (mean**2 + variance) * step + mean * sigma * _density(mean / sigma),
        (1, 0): _single(0, mean, variance),
        (1, 1): step,
        (2, 0): jnp.zeros_like(mean),
        (2, 1): delta / 2,
        (3, 0): -delta / 2,
        (3, 1): slope / 2,
        (2, 2): jnp.zeros_like(mean),
        (4, 0): -slope,
    }[p, q]


def _pair(a: int, b: int, at: Normal) -> Pairs:
    """F^(a b) of the module's docstring."""
    if a < b:
        swapped = Normal(at.other_mean, at.mean, at.other_variance, at.variance, at.covariance, at.gap)
        return _pair(b, a, swapped)
    mean, other, covariance = at.mean, at.other_mean, at.covariance
    if (a, b) == (0, 0):
        return mean * _pair(1, 0, at) + at.variance * _pair(2, 0, at) + covariance * _pair(1, 1, at)
    if (a, b) == (1, 0):
        return other * _pair(1, 1, at) + covariance * _pair(2, 1, at) + at.other_variance * _pair(1, 2, at)
    sigma, other_sigma = jnp.sqrt(at.variance), jnp.sqrt(at.other_variance)
    rho = covariance / (sigma * other_sigma)
    if (a, b) == (1, 1):
        return quadrant(mean / sigma, other / other_sigma, rho)
    rest = other_sigma * at.gap  # deviation of z_2 where z_1 = 0

    def at_zero(mean, other):
        left = other - rho * other_sigma / sigma * mean  # mean of z_2 where z_1 = 0
        density = _density(mean / sigma) / sigma
        if b == 0:
            return density * (left * ndtr(left / rest) + rest * _density(left / rest))
        if b == 1:
            return density * ndtr(left / rest)
        return density * _density(left / rest) / rest

    return _derived(at_zero, a - 2, max(b - 2, 0))(mean, other)


def _derived(fn: Callable[[Array, Array], Array], n: int, n_other: int) -> Callable[[Array, Array], Array]:
    """Elementwise derivatives by the first argument and by the second."""
    for place, times in ((0, n), (1, n_other)):
        for _ in range(times):
            fn = _once(fn, place)
    return fn


def _once(fn: Callable[[Array, Array], Array], place: int) -> Callable[[Array, Array], Array]:
    def derivative(one: Array, other: Array) -> Array:
        along = [jnp.zeros_like(one), jnp.zeros_like(other)]
        along[place] = jnp.ones_like(along[place])
        return jax.jvp(fn, (one, other), tuple(along))[1]

    return derivative


def _tanh_sinh() -> tuple[np.ndarray, np.ndarray]:
    """Distances 1 - x from the upper end of [0, 1], and weights; 113 nodes, good to 1e-15 for what is smooth inside."""
    t = np.linspace(-3.5, 3.5, 113)
    inner = np.pi * np.sinh(t)
    return 1 / (1 + np.exp(inner)), np.pi / 4 * np.cosh(t) / np.cosh(inner / 2) ** 2 * (t[1] - t[0])


_FROM_END, _WEIGHTS = _tanh_sinh()


def quadrant(
    h: Float[Array, "*shape"], k: Float[Array, "*shape"], rho: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """P(x < h, y < k) of two standard normal numbers with correlation rho, to 1e-10 at worst and 1e-15 mostly."""
    sign = jnp.where(rho < 0, -1.0, 1.0).astype(rho.dtype)
    turned, size = sign * k, jnp.minimum(jnp.abs(rho), 1)
    end, gap = jnp.arcsin(size)[..., None], jnp.sqrt(jnp.maximum(1 - size**2, 0))[..., None]
    back = end * jnp.asarray(_FROM_END, rho.dtype).reshape((1,) * rho.ndim + (-1,))  # from the end of the integral
    size, h_, k_ = size[..., None], h[..., None], turned[..., None]
    cos = gap * jnp.cos(back) + size * jnp.sin(back)
    sin = size * jnp.cos(back) - gap * jnp.sin(back)
    # (h^2 + k^2 - 2 h k sin) / (2 cos^2), without the cancellation near a correlation of one
    exponent = (h_ - k_) ** 2 / (2 * jnp.maximum(cos**2, _LEAST_VARIANCE)) + h_ * k_ / (1 + sin)
    integral = jnp.exp(-exponent) @ jnp.asarray(_WEIGHTS, rho.dtype) * end[..., 0] / (2 * math.pi)
    positive = ndtr(h) * ndtr(turned) + integral
    return jnp.where(rho < 0, ndtr(h) - positive, positive)
