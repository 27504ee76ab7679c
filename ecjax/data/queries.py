"""Queries: the inputs at which a teacher is asked.

A weight is visible only through the pre-activations that the queries make, so the queries decide what can be known.
Gaussian queries see every direction alike; a grid draws the function of a toy teacher; noisy copies of a data set
see also the directions in which the data never vary.
"""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

LARGEST_GRID = 10_000_000  # numbers in one grid; 80 MB in float64


def gaussian_queries(n_samples: int, d_in: int, *, key: PRNGKeyArray, dtype=None) -> Float[Array, "samples fan_in"]:
    """Draw independent standard normal queries.

    Args:
        n_samples: How many.
        d_in: How many inputs the teacher has.
        key: Used up.
        dtype: Of the queries; by default JAX's default float.

    Raises:
        ValueError: If `n_samples` or `d_in` is below 1.
    """
    for name, value in {"n_samples": n_samples, "d_in": d_in}.items():
        if value < 1:
            raise ValueError(f"`{name}` is at least 1; got {value}.")
    return jr.normal(key, (n_samples, d_in), dtype or jnp.zeros(()).dtype)


def grid_queries(
    n_per_side: int, d_in: int, low: float = -3.0, high: float = 3.0, *, dtype=None
) -> Float[Array, "samples fan_in"]:
    """A uniform grid over the cube [low, high]^d_in, both ends included, the last input varying fastest.

    Args:
        n_per_side: Grid points along each input; the grid has n_per_side ** d_in of them.
        d_in: How many inputs the teacher has.
        low: Smallest value of every input.
        high: Largest value of every input.
        dtype: Of the queries; by default JAX's default float.

    Raises:
        ValueError: If a side has fewer than 2 points, `low` is not below `high`, or the grid would not fit in memory.
    """
    if n_per_side < 2:
        raise ValueError(f"`n_per_side` is at least 2, the two ends of a side; got {n_per_side}.")
    if d_in < 1:
        raise ValueError(f"`d_in` is at least 1; got {d_in}.")
    if not low < high:
        raise ValueError(f"`low` is below `high`; got low={low:g}, high={high:g}.")
    n_samples = n_per_side**d_in  # a Python integer, which cannot overflow
    if n_samples * d_in > LARGEST_GRID:
        raise ValueError(
            f"`n_per_side` = {n_per_side} and `d_in` = {d_in} make a grid of {n_per_side}^{d_in} queries, more than "
            f"{LARGEST_GRID:,} numbers. A grid suits up to about 4 inputs; use gaussian_queries for more."
        )
    side = jnp.linspace(low, high, n_per_side, dtype=dtype)
    return jnp.stack(jnp.meshgrid(*[side] * d_in, indexing="ij"), axis=-1).reshape(n_samples, d_in)


def noisy_copies(
    x: Float[Array, "samples fan_in"], n_copies: int, scale: float, *, key: PRNGKeyArray
) -> Float[Array, "copies fan_in"]:
    """Copies of the data with Gaussian noise, one whole copy of the data after another; `x` itself is not among them.

    Args:
        x: The data.
        n_copies: How often each sample is copied.
        scale: Standard deviation of the noise in the units of `x`, the same for every input. It is absolute rather
            than a share of each input's spread, so that inputs that never vary in the data vary here and their weights
            become visible. Where inputs have different units, standardise them first.
        key: Used up.

    Raises:
        ValueError: If `n_copies` is below 1, or `scale` is not positive.
    """
    if n_copies < 1:
        raise ValueError(f"`n_copies` is at least 1; got {n_copies}.")
    if not scale > 0:
        raise ValueError(f"`scale` is the standard deviation of the noise, above 0; got {scale:g}.")
    copies = jnp.tile(x, (n_copies, 1))
    return copies + scale * jr.normal(key, copies.shape, copies.dtype)
