"""Products of all rows with each other, for matrices of curvature."""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Rows of which all products are taken at once. Between 100 and 300 of them the time hardly changes (measured on CPUs,
# 97 to 1,153 rows); larger blocks take products twice, smaller ones are many small matrix products.
_BLOCK = 256


def gram(rows: Float[Array, "rows samples"]) -> Float[Array, "rows rows"]:
    """rows @ rows.T, the products of different blocks of rows once: XLA has no product that knows itself symmetric.

    Rows it is, and not columns: a product that sums over the first axis of both factors takes XLA twice as long on a
    CPU. The barrier keeps a transposition before the product from becoming one of those again.
    """
    n = len(rows)
    n_blocks = -(-n // _BLOCK)
    edges = [n * k // n_blocks for k in range(n_blocks + 1)]
    blocks = jax.lax.optimization_barrier([rows[start:end] for start, end in itertools.pairwise(edges)])
    upper = [[left @ right.T for right in blocks[k:]] for k, left in enumerate(blocks)]
    return jnp.block(
        [[upper[k][j - k] if k <= j else upper[j][k - j].T for j in range(n_blocks)] for k in range(n_blocks)]
    )
