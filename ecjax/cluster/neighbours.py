"""Components of the R-neighbour graph: which neurons hang together by steps shorter than R.

Average linkage never merges two clusters below R unless some pair of their members is closer than R, so nothing else
has to be known of the distances to link up to R. A certified lower bound in few coordinates dismisses most pairs,

    |u - v|^2  >=  |Pu - Pv|^2 + (|Qu| - |Qv|)^2,     P onto leading principal directions, Q onto the rest,

which holds for |u + v| with |Pu + Pv| too. The few pairs that pass are measured by direct differences, unless they are
already known to hang together. Vectors are sorted by a coordinate that no symmetry changes, so that tiles farther apart
than R along it are never looked at.

Memory: the coordinates of the bound, n * (directions + 1) numbers, and a tile.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..base.precision import in_full_precision
from .distances import TILE, pair_distances
from .embedding import Points

_DIRECTIONS = 64  # most principal directions that the bound takes
_STRIP = 16  # most tiles that one call looks at
_PENDING = 1 << 20  # pairs that are gathered before they are measured
_PILOT = 1 << 20  # random pairs on which the bound is tried
_PASSING = 2e-6  # share of unrelated pairs that may pass the bound: what measuring them costs stays below the bound's
_WASTED = 1e-5  # share of pairs that may pass a shorter bound in vain: one of 2^17 that are tried
_SLACK = 1 + 1e-6  # on radii and squares, for the rounding of what is compared with them: no pair is lost by it


@dataclass(frozen=True)
class Bound:
    """Coordinates in which distances are never larger than the true ones.

    Attributes:
        x: Leading principal coordinates, with the norm of the rest as last column.
        signed: Whether the leading coordinates carry a sign that the activation leaves open.
    """

    x: Float[np.ndarray, "neurons directions_1"]
    signed: bool

    def pairs(self, i: np.ndarray, j: np.ndarray, directions: int | None = None) -> Float[np.ndarray, " pairs"]:
        """The bound for pairs, if it stopped after fewer directions than it has."""
        lead, rest = self.x[:, : -1 if directions is None else directions], self.x[:, -1]
        if directions is not None:
            rest = np.sqrt(rest**2 + np.sum(self.x[:, directions:-1] ** 2, axis=1))
        u, v = lead[i], lead[j]
        squares = np.sum((u - v) ** 2, axis=1)
        if self.signed:
            squares = np.minimum(squares, np.sum((u + v) ** 2, axis=1))
        return np.sqrt(squares + (rest[i] - rest[j]) ** 2)


def bound(points: Points) -> Bound:
    """The bound for these points. A phase may move their last coordinate, which then stays out of it."""
    x = points.x if points.antiperiod is None else points.x[:, :-1]
    directions = _leading_directions(x[np.linspace(0, len(x) - 1, min(len(x), 4_096)).astype(int)])
    lead = x @ directions
    rest = np.maximum(0, np.einsum("ij,ij->i", x, x) - np.einsum("ij,ij->i", lead, lead))
    if directions.shape[1] == x.shape[1]:
        rest[:] = 0
    return Bound(np.column_stack([lead, np.sqrt(rest)]), points.sign_free)


def _leading_directions(x: np.ndarray) -> np.ndarray:
    """Orthonormal directions along which these vectors are long. Any orthonormal ones make a valid bound."""
    k = x.shape[1]
    if k <= _DIRECTIONS:
        return np.linalg.eigh(x.T @ x)[1][:, ::-1]
    # Two powers of the second moment on random directions: as good as eigenvectors here, and far cheaper.
    y = x.T @ (x @ (x.T @ (x @ np.random.default_rng(0).standard_normal((k, _DIRECTIONS)))))
    for _ in range(2):  # twice, and they are orthonormal to rounding
        lengths, turn = np.linalg.eigh(y.T @ y)
        long = lengths > 1e-12 * lengths.max(initial=0.0)  # squares: shorter directions are rounding, and not needed
        y = y @ (turn[:, long] / np.sqrt(lengths[long]))
    return y


def farthest_radius(bound: Bound, copies: float) -> float:
    """The largest radius at which the bound still dismisses nearly all unrelated pairs.

    Args:
        bound: To try on random pairs.
        copies: Distance up to which pairs are copies of one neuron, which no bound can or should dismiss.
    """
    rng = np.random.default_rng(0)  # a choice of effort, not of result: components are exact whatever it says
    i, j = rng.integers(len(bound.x), size=(2, min(_PILOT, 4 * len(bound.x))))
    tried = np.concatenate(
        [bound.pairs(*each) for each in zip(np.array_split(i, 16), np.array_split(j, 16), strict=True)]
    )
    return float(np.quantile(tried[tried > copies], _PASSING)) if (tried > copies).any() else float("inf")


def _fewest_directions(bound: Bound, radius: float) -> int:
    rng = np.random.default_rng(1)
    i, j = rng.integers(len(bound.x), size=(2, min(1 << 17, len(bound.x))))
    most = bound.x.shape[1] - 1
    for directions in (4, 8, 16, 32):
        # Copies pass whatever the bound; what counts is how many pass that a better bound would have dismissed.
        if directions >= most:
            break
        passing = bound.pairs(i, j, directions) <= radius
        if np.mean(passing & (bound.pairs(i, j) > radius)) <= _WASTED:
            return directions
    return most


def _folded(x: np.ndarray, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Left and right factors whose inner products are the squared bounds, less what rounding may add to them.

    With the squared norms as two further columns a tile of the bound is one matrix product and nothing else. Single
    precision is enough: rounding raises a square by a few eps of its terms for each column, and so much is taken off,
    so that no pair is dismissed for it. The right factor has a leading axis for the sign that is left open.
    """
    squares = np.sum(x * x, axis=1) * (1 - 4 * (x.shape[1] + 4) * float(np.finfo(np.float32).eps))
    one = np.ones_like(squares)
    signs = [np.ones(x.shape[1])] + [np.append(-np.ones(x.shape[1] - 1), 1.0)] * signed  # a norm has no sign
    right = np.stack([np.column_stack([-2 * sign * x, one, squares]) for sign in signs])
    return np.column_stack([x, squares, one]).astype(np.float32), right.astype(np.float32)


@jax.jit  # as in `ecjax.cluster.distances`
@in_full_precision
def _smallest_squares(left, strip):
    """The smallest squared bound of each tile of a strip: the square matrix itself is never written."""
    return jax.lax.map(lambda right: jnp.min(left @ right.T), strip)


@jax.jit  # as in `ecjax.cluster.distances`
@in_full_precision
def _tile_squares(left, right):
    return jnp.min(jnp.stack([left @ one.T for one in right]), axis=0)


def components(points: Points, bound: Bound, radius: float) -> Int[np.ndarray, " neurons"]:
    """Component of every vector in the graph of all pairs at a distance of at most `radius`.

    Exact: pairs are dismissed by the bound only, and those that pass are measured, or join what is joined already.
    """
    n = len(points)
    directions = _fewest_directions(bound, radius)
    rest = np.sqrt(bound.x[:, -1] ** 2 + np.sum(bound.x[:, directions:-1] ** 2, axis=1))
    x = np.column_stack([bound.x[:, :directions], rest])
    keys = [np.abs(x[:, 0]) if bound.signed else x[:, 0], rest, np.linalg.norm(x, axis=1)]
    key = max(keys, key=np.std)  # each is 1-Lipschitz and the same for u and -u
    order = np.argsort(key, kind="stable")
    key = key[order]
    unit = np.sqrt(np.mean(x**2)) or 1.0
    limit = (radius / unit) ** 2 * _SLACK
    # The origin of plain distances is free, and best where the points are.
    left, right = _folded(((x if bound.signed else x - x.mean(axis=0)) / unit)[order], bound.signed)
    size = min(TILE, max(64, 1 << (n - 1).bit_length()))
    tiles = -(-n // size)
    width = max(1, min(_STRIP, tiles // 4))  # a strip reaches beyond the last tile by less than itself
    left = np.pad(left, ((0, tiles * size - n), (0, 0)))
    right = np.pad(right, ((0, 0), (0, (tiles + width) * size - n), (0, 0)))
    right[:, n:, -1] = np.float32(1e30)  # padding is far from everything, whose squares are about 1
    label = np.arange(n)
    pending: list[np.ndarray] = []
    waiting = 0
    for r in range(tiles):
        u = left[r * size : (r + 1) * size]
        reach = int(np.searchsorted(key, key[min((r + 1) * size, n) - 1] + radius * _SLACK, side="right"))
        for c in range(r, -(-reach // size), width):
            strip = right[:, c * size : (c + width) * size]
            smallest = _smallest_squares(u, strip.reshape(-1, size, strip.shape[-1]))
            smallest = np.min(np.asarray(smallest).reshape(len(right), width), axis=0)
            for t in np.flatnonzero(smallest <= limit):
                tile = _tile_squares(u, strip[:, t * size : (t + 1) * size])
                i, j = divmod(np.flatnonzero(np.asarray(tile).ravel() <= limit), size)
                i, j = i + r * size, j + (c + t) * size
                ahead = (i < j) & (j < n)
                i, j = order[i[ahead]], order[j[ahead]]
                apart = label[i] != label[j]
                pending.append(np.stack([i[apart], j[apart]]))
                waiting += int(apart.sum())
            if waiting > _PENDING:
                label = _joined(points, label, np.concatenate(pending, axis=1), radius)
                pending, waiting = [], 0
    if waiting:
        label = _joined(points, label, np.concatenate(pending, axis=1), radius)
    return np.unique(label, return_inverse=True)[1]


def _joined(points: Points, label: np.ndarray, pairs: np.ndarray, radius: float) -> np.ndarray:
    """Labels after joining the components of those pairs that are close, measuring no more pairs than it must."""
    while pairs.shape[1]:
        # One pair for each component and round: most of the others join the same two, and are never measured.
        first = np.unique(np.min(label[pairs], axis=0), return_index=True)[1]
        i, j = pairs[:, first]
        close = pair_distances(points, i, j) <= radius
        graph = coo_array((np.ones(close.sum()), (label[i[close]], label[j[close]])), shape=(len(label),) * 2)
        label = connected_components(graph, directed=False)[1][label]
        left = label[pairs[0]] != label[pairs[1]]
        left[first] = False
        pairs = pairs[:, left]
    return label
