"""Distances between neurons, in tiles: as fast as a matrix product, and accurate for near-duplicates.

    |u - v|^2 = |u|^2 + |v|^2 - 2 u v          far pairs: one matrix product a tile
    |u - v|^2 = sum_i (u_i - v_i)^2            near pairs, where the product form cancels

Sign-free neurons take the smaller of |u - v| and |u + v|; an antiperiod wraps the difference of the last coordinate.
The product form is wrong by about sqrt(k) eps (|u|^2 + |v|^2) for k coordinates; pairs for which that could exceed
1e-12 of the squared distance are found in the tile and computed again by differences, so that every distance has a
relative error of at most 1e-12 in float64 (1e-4 in float32), and duplicates are at distance 0 exactly.

Products are in the precision of the points whatever the machine would like better, or these bounds would not hold.

Memory: two tiles and their compiled temporaries, about 6 * TILE^2 numbers (50 MB), beside the result and the points.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ..base.precision import in_full_precision
from .embedding import Points

TILE = 1024  # rows and columns of a tile: 8 MB in float64
_NEAR_ENTRIES = 1 << 21  # coordinates of near pairs that are gathered at a time: 16 MB in float64
_ACCURACY = {8: 1e-12, 4: 1e-4}  # largest relative error of a squared distance, by bytes of a number
# Rounding errors of a dot product of k terms add up like a random walk: below 8 sqrt(k) eps |u| |v| with overwhelming
# probability (Higham and Mary, SIAM J. Sci. Comput. 41, 2019), far below the worst case k eps |u| |v|.
_WALK = 8.0

# `ecjax.base.precision.compiled` but for its way of telling static arguments, which takes 40 us a call: half as long as
# a small tile, of which there may be thousands.
_compiled = partial(jax.jit, static_argnames=("sign_free", "antiperiod", "cosine"))


@_compiled
@in_full_precision
def _product_tile(u, v, uu, vv, *, sign_free, antiperiod, cosine):
    """Distances of the rows of u to those of v, given their squared norms; -1 where the product form is inaccurate."""
    eps, accuracy = jnp.finfo(u.dtype).eps, _ACCURACY[u.dtype.itemsize]
    scale = uu[:, None] + vv[None, :]
    if antiperiod is None:
        dot = 2 * (u @ v.T)
        squares = scale - (jnp.abs(dot) if sign_free else dot)
    else:
        a, b = u[:, -1][:, None], v[:, -1][None, :]
        rest, dot = scale - a**2 - b**2, 2 * (u[:, :-1] @ v[:, :-1].T)
        squares = rest - dot + _wrap(a - b, antiperiod) ** 2
        if sign_free:
            squares = jnp.minimum(squares, rest + dot + _wrap(a + b, antiperiod) ** 2)
    near = squares <= _WALK * u.shape[1] ** 0.5 * eps / accuracy * scale
    squares = jnp.maximum(squares, 0)
    return jnp.where(near, -1, squares / 2 if cosine else jnp.sqrt(squares))


@_compiled
@in_full_precision
def _difference_pairs(u, v, *, sign_free, antiperiod, cosine):
    """Distance of each row of u to the same row of v, by differences."""
    squares = _difference_squares(u, v, antiperiod)
    if sign_free:
        squares = jnp.minimum(squares, _difference_squares(u, -v, antiperiod))
    return squares / 2 if cosine else jnp.sqrt(squares)


def _difference_squares(u, v, antiperiod):
    difference = u - v
    if antiperiod is not None:
        difference = difference.at[:, -1].set(_wrap(difference[:, -1], antiperiod))
    return jnp.sum(difference**2, axis=1)


def _wrap(phase, antiperiod):
    """The phase moved by whole antiperiods next to zero."""
    return phase - antiperiod * jnp.round(phase / antiperiod)


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    if len(rows) == size:
        return rows
    return np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])


def _tile_size(n: int) -> int:
    """A power of two, so that small sets share few compiled shapes and pay for few empty rows."""
    return min(TILE, max(64, 1 << (n - 1).bit_length()))


def _symmetry(points: Points) -> dict:
    return {"sign_free": points.sign_free, "antiperiod": points.antiperiod, "cosine": points.cosine}


def pair_distances(points: Points, i: Int[np.ndarray, " pairs"], j: Int[np.ndarray, " pairs"]) -> np.ndarray:
    """Distance of point i to point j for each given pair, by direct differences."""
    out = np.empty(len(i), points.x.dtype)
    size = max(1, _NEAR_ENTRIES // points.x.shape[1])
    size = min(size, _tile_size(len(i))) if len(i) < TILE else size
    with jax.enable_x64(True):  # cluster work is float64 whatever JAX's default is; the scope leaves no trace
        for start in range(0, len(i), size):
            at = slice(start, min(start + size, len(i)))
            u, v = _padded(points.x[i[at]], size), _padded(points.x[j[at]], size)
            out[at] = np.asarray(_difference_pairs(u, v, **_symmetry(points)))[: at.stop - at.start]
    return out


def distance_tiles(
    points: Points, *, exact: Points | None = None, apart: Int[np.ndarray, " neurons"] | None = None
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Tiles (rows, columns, distances) on and above the diagonal of the distance matrix; not to be written to.

    Args:
        points: Of which the matrix products are taken.
        exact: The same points about another origin, if near pairs are to be measured there; else `points`.
        apart: Group of every point, if near pairs of one group need not be measured (they may come out as -1).
    """
    size, squares = _tile_size(len(points)), np.einsum("ij,ij->i", points.x, points.x)
    blocks = [slice(start, min(start + size, len(points))) for start in range(0, len(points), size)]
    tiles = [(rows, columns) for r, rows in enumerate(blocks) for columns in blocks[r:]]

    def begin(rows, columns):
        u, v, uu, vv = (_padded(x[at], size) for x in (points.x, squares) for at in (rows, columns))
        with jax.enable_x64(True):
            return _product_tile(u, v, uu, vv, **_symmetry(points))

    begun = (begin(*tile) for tile in tiles)
    ahead = next(begun, None)
    for rows, columns in tiles:
        now, ahead = ahead, next(begun, None)  # computed while the host works on this one
        tile = np.asarray(now)[: rows.stop - rows.start, : columns.stop - columns.start]
        if rows == columns:
            tile = tile.copy()
            np.fill_diagonal(tile, 0.0)
        if tile.min() < 0:
            i, j = np.nonzero(tile < 0)
            if apart is not None:
                needed = apart[rows][i] != apart[columns][j]
                i, j = i[needed], j[needed]
            if len(i):
                tile = tile if rows == columns else tile.copy()
                tile[i, j] = pair_distances(exact or points, i + rows.start, j + columns.start)
        yield rows, columns, tile


def nearest_distances(points: Points, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Distance of each of a few points to the nearest other one."""
    size, squares = _tile_size(len(rows)), np.einsum("ij,ij->i", points.x, points.x)
    nearest = np.full(len(rows), np.inf)
    for first in range(0, len(rows), size):
        mine = rows[first : first + size]
        u, uu = _padded(points.x[mine], size), _padded(squares[mine], size)
        for start in range(0, len(points), TILE):
            v, vv = points.x[start : start + TILE], _padded(squares[start : start + TILE], TILE)
            with jax.enable_x64(True):
                tile = np.asarray(_product_tile(u, _padded(v, TILE), uu, vv, **_symmetry(points)))
            tile = tile[: len(mine), : len(v)].copy()
            i, j = np.nonzero(tile < 0)
            tile[i, j] = pair_distances(points, mine[i], j + start)
            own = (mine >= start) & (mine < start + len(v))
            tile[own, mine[own] - start] = np.inf
            np.minimum(nearest[first : first + size], tile.min(axis=1), out=nearest[first : first + size])
    return nearest


def condensed_distances(points: Points, *, exact: Points | None = None) -> Float[np.ndarray, " pairs"]:
    """Distances of all pairs in SciPy's condensed order: (0, 1), (0, 2), ..., (1, 2), ...; see `distance_tiles`."""
    n = len(points)
    out = np.empty(n * (n - 1) // 2, points.x.dtype)
    first = np.arange(n) * (2 * n - np.arange(n) - 3) // 2 - 1  # out[first[i] + j] is the distance of i < j
    for rows, columns, tile in distance_tiles(points, exact=exact):
        for i, row in enumerate(tile, rows.start):
            start = max(i + 1, columns.start)
            out[first[i] + start : first[i] + columns.stop] = row[start - columns.start :]
    return out
