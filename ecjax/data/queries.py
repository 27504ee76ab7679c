"""Queries: the inputs at which a teacher is asked.

A weight is visible only through the pre-activations that the queries make, so the queries decide what can be known.
Gaussian queries see every direction alike; a grid draws the function of a toy teacher; noisy copies of a data set
see also the directions in which the data never vary; mixtures of its samples are as many as are wanted.
"""

from typing import Any

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..base.checks import check_key, whole_number
from ..base.memory import require_memory

LARGEST_GRID = 10_000_000  # numbers in one grid; 80 MB in float64


def gaussian_queries(n_samples: int, d_in: int, *, key: PRNGKeyArray, dtype=None) -> Float[Array, "samples fan_in"]:
    """Draw independent standard normal queries.

    Args:
        n_samples: How many.
        d_in: How many inputs the teacher has.
        key: Not to be used again.
        dtype: Of the queries; by default JAX's default float.

    Raises:
        ValueError: If `n_samples` or `d_in` is below 1, `key` is no key, or the queries do not fit in memory.
    """
    check_key(key)
    n_samples, d_in = whole_number(n_samples, "n_samples"), whole_number(d_in, "d_in")
    dtype = jnp.dtype(dtype or jnp.zeros(()).dtype)
    _require(n_samples, d_in, dtype, "n_samples")
    return jr.normal(key, (n_samples, d_in), dtype)


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
    n_per_side, d_in = whole_number(n_per_side, "n_per_side", low=2), whole_number(d_in, "d_in")
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
        key: Not to be used again.

    Raises:
        ValueError: If `n_copies` is below 1, `scale` is not positive, `key` is no key, or there is no memory for them.
    """
    check_key(key)
    n_copies = whole_number(n_copies, "n_copies")
    if not 0 < scale < float("inf"):
        raise ValueError(f"`scale` is the standard deviation of the noise, above 0; got {scale:g}.")
    _require(n_copies * len(x), x.shape[1], x.dtype, "n_copies")
    copies = jnp.tile(x, (n_copies, 1))
    return copies + scale * jr.normal(key, copies.shape, copies.dtype)


def mixed_queries(
    x: Float[Array, "samples fan_in"], n_samples: int, *, key: PRNGKeyArray
) -> Float[Array, "mixtures fan_in"]:
    """Mixtures of two samples of the data each, at random places of the line between them.

    They lie where the data do, within any box that holds these, and there are as many as are wanted: for a teacher that
    answers, of which fewer data are at hand than it has weights. With noise (`noisy_copies` of them) inputs that never
    vary in the data do here.

    Args:
        x: The data, two samples or more.
        n_samples: How many mixtures.
        key: Not to be used again.

    Raises:
        ValueError: If `x` has fewer than two samples, `n_samples` is below 1, `key` is no key, or there is no memory.

    Source:
        Zhang et al., "mixup", ICLR 2018 (arXiv:1710.09412), for such mixtures; Beiser, Martinelli et al.
        (arXiv:2511.20312) for queries made of data to recover networks, there by mixtures of another kind.
    """
    check_key(key)
    n_samples = whole_number(n_samples, "n_samples")
    if len(x) < 2:
        raise ValueError(f"`x` has two samples at least, to be mixed; got {len(x)}.")
    _require(n_samples, x.shape[1], x.dtype, "n_samples")
    which, place, other = jr.split(key, 3)
    one = jr.randint(which, (n_samples,), 0, len(x))
    two = (one + jr.randint(other, (n_samples,), 1, len(x))) % len(x)  # never the same
    share = jr.uniform(place, (n_samples, 1), x.dtype)
    return x[two] + share * (x[one] - x[two])


def _require(n_samples: int, d_in: int, dtype: Any, setting: str) -> None:
    """Memory for so many queries, and for the random numbers that they are made of."""
    require_memory(
        2 * n_samples * d_in * dtype.itemsize, f"{n_samples:,} queries of {d_in:,} inputs", f"lower `{setting}`"
    )
