"""What makes a network's loss flat: copies, silent and constant neurons, scales, and pairs that run to infinity."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..network import Network
from ..network.symmetries import symmetries
from ..objective import flatten

# Vectors count as one where they differ by this much of their size: a student stops some root of its loss short of the
# point that it approaches, and copies approach each other slower than the loss falls.
_SAME = 1e-3
# Of a pair on its way to infinity: incoming vectors this near to each other and outgoing ones to each other's negative,
# of their size, which is so many times that of the layer's smallest. At the start of such a way 0.2 and 10 are usual.
_NEAR, _LARGE = 0.3, 5.0
_TINY = float(np.finfo(float).tiny)


class Degeneracy(NamedTuple):
    """What makes directions flat, and how many."""

    duplicates: tuple[tuple[int, int, int], ...]  # hidden layer and two neurons with one incoming vector
    silent: tuple[tuple[int, int], ...]  # hidden layer and neuron without outgoing weights
    constant: tuple[tuple[int, int], ...]  # hidden layer and neuron without incoming weights
    scales: tuple[tuple[int, int], ...]  # hidden layer and neuron whose norm may move into its outgoing weights
    diverging: tuple[tuple[int, int, int], ...]  # hidden layer and two neurons that make a derivative of one
    accounted: dict[str, int]  # zero eigenvalues that each kind accounts for, those of earlier kinds left out


def degeneracy(net: Network, flat: Float[np.ndarray, "parameters zeros"]) -> Degeneracy:
    """Directions of each kind, and how much of the flat space they span beyond those of the kinds before."""
    found = {"duplicates": [], "silent": [], "constant": [], "scales": [], "diverging": []}
    by_kind: dict[str, list[np.ndarray]] = {name: [] for name in found}
    for layer in range(len(net.widths)):
        inner, outer = net.layers[layer], net.layers[layer + 1]
        vectors = np.concatenate([np.asarray(inner.w), np.asarray(inner.b)[:, None]], axis=1)
        a = np.asarray(outer.w, float)
        size, reach = np.linalg.norm(vectors, axis=1), np.linalg.norm(a, axis=0)
        homogeneous = symmetries(inner.activation, len(vectors)).homogeneous
        each = dict(enumerate(inner.activation.groups(len(vectors))))
        kind_of = {int(i): number for number, (_, members) in each.items() for i in members}
        pairs = [(j, i) for i in range(len(vectors)) for j in range(i) if kind_of[i] == kind_of[j]]
        apart = {(j, i): np.linalg.norm(vectors[i] - vectors[j]) / max(size[i], size[j], _TINY) for j, i in pairs}
        diverging = [pair for pair in pairs if apart[pair] <= _NEAR and _cancel(a[:, pair[0]], a[:, pair[1]], reach)]
        for j, i in diverging:
            found["diverging"].append((layer, j, i))
            by_kind["diverging"] += _exchanges(net, layer, j, i, a.shape[0])
        others = np.setdiff1d(np.arange(len(vectors)), diverging)
        little = _SAME * max(float(np.median(reach[others])) if len(others) else 0.0, _TINY)
        for i in range(len(vectors)):
            if reach[i] <= little:
                found["silent"].append((layer, i))
                by_kind["silent"] += _moves(net, layer, i, incoming=np.eye(vectors.shape[1]))
            elif np.linalg.norm(vectors[i, :-1]) <= _SAME * max(float(np.median(size)), _TINY):
                found["constant"].append((layer, i))
                by_kind["constant"] += _constants(net, layer, i, vectors, a)
            if homogeneous[i] and reach[i] > little:
                found["scales"].append((layer, i))
                by_kind["scales"] += _moves(net, layer, i, incoming=vectors[i][None], outgoing=-a[:, i])
        for j, i in pairs:
            if apart[j, i] <= _SAME and (j, i) not in diverging:
                found["duplicates"].append((layer, j, i))
                by_kind["duplicates"] += _exchanges(net, layer, j, i, a.shape[0])
    accounted, known = {}, np.zeros((len(flat), 0))
    for name, directions in by_kind.items():
        before = _rank(known, flat)
        known = np.concatenate([known, *[one[:, None] for one in directions]], axis=1) if directions else known
        accounted[name] = _rank(known, flat) - before
    each = {name: tuple(which) for name, which in found.items()}
    return Degeneracy(**each, accounted=accounted)


def _cancel(one: np.ndarray, other: np.ndarray, reach: np.ndarray) -> bool:
    """Whether two outgoing vectors are large, and nearly each other's negative: on their way to a derivative."""
    smaller = min(np.linalg.norm(one), np.linalg.norm(other))
    return bool(smaller > _LARGE * float(reach.min()) and np.linalg.norm(one + other) < _NEAR * smaller)


def _blank(net: Network) -> Network:
    return Network(tuple(eqx.tree_at(lambda own: (own.w, own.b), one, (one.w * 0, one.b * 0)) for one in net.layers))


def _moves(net: Network, layer: int, neuron: int, *, incoming: np.ndarray, outgoing: np.ndarray | None = None):
    """Directions that change one neuron's incoming vector, one for each row, and its outgoing weights."""
    directions = []
    for row in incoming:
        blank = _blank(net)
        inner, outer = blank.layers[layer], blank.layers[layer + 1]
        w, b = inner.w.at[neuron].set(jnp.asarray(row[:-1])), inner.b.at[neuron].set(row[-1])
        a = outer.w if outgoing is None else outer.w.at[:, neuron].set(jnp.asarray(outgoing))
        directions.append(_with(blank, layer, (w, b, a)))
    return directions


def _exchanges(net: Network, layer: int, one: int, other: int, fan_out: int):
    """Directions that move outgoing weights from one neuron to another, and incoming vectors against each other.

    Of copies i, j with outgoing weights a, b: weights may be exchanged; and where the exchange is of incoming vectors,
    b v for one and -a v for the other leave the sum a w + b w to first order, with one output also its curvature.
    """
    directions = []
    for k in range(fan_out):
        blank = _blank(net)
        outer = blank.layers[layer + 1]
        inner = blank.layers[layer]
        directions.append(_with(blank, layer, (inner.w, inner.b, outer.w.at[k, one].set(1.0).at[k, other].set(-1.0))))
    a = np.asarray(net.layers[layer + 1].w)[:, [one, other]]
    _, _, mixes = np.linalg.svd(a)
    against = (
        mixes[-1] if fan_out == 1 or np.linalg.matrix_rank(a, tol=_SAME * np.abs(a).max(initial=1e-300)) < 2 else None
    )
    if against is not None:
        for k in range(net.layers[layer].w.shape[1] + 1):
            blank = _blank(net)
            inner, outer = blank.layers[layer], blank.layers[layer + 1]
            w, b = inner.w, inner.b
            for neuron, share in ((one, against[0]), (other, against[1])):
                w = w.at[neuron, k].set(share) if k < w.shape[1] else w
                b = b.at[neuron].set(share) if k == w.shape[1] else b
            directions.append(_with(blank, layer, (w, b, outer.w)))
    return directions


def _constants(net: Network, layer: int, neuron: int, vectors: np.ndarray, a: np.ndarray):
    """A constant neuron's height may be moved into the next layer's biases, by its outgoing weights or its own bias."""
    blank = _blank(net)
    z = jnp.asarray(vectors[neuron, -1])
    activation = net.layers[layer].activation.take([neuron])
    height, slope = activation.fn(z[None])[0], activation.d1(z[None])[0]  # pyright: ignore[reportAttributeAccessIssue]
    directions = []
    for k in range(a.shape[0]):
        outer = blank.layers[layer + 1]
        w, b = outer.w.at[k, neuron].set(1.0), outer.b.at[k].set(-height)
        new = eqx.tree_at(lambda own: (own.w, own.b), outer, (w, b))
        directions.append(_theta(Network((*blank.layers[: layer + 1], new, *blank.layers[layer + 2 :]))))
    inner, outer = blank.layers[layer], blank.layers[layer + 1]
    moved = eqx.tree_at(lambda own: own.b, inner, inner.b.at[neuron].set(1.0))
    paid = eqx.tree_at(lambda own: own.b, outer, -slope * jnp.asarray(a[:, neuron]))
    directions.append(_theta(Network((*blank.layers[:layer], moved, paid, *blank.layers[layer + 2 :]))))
    return directions


def _with(blank: Network, layer: int, weights) -> np.ndarray:
    w, b, a = weights
    inner = eqx.tree_at(lambda own: (own.w, own.b), blank.layers[layer], (w, b))
    outer = eqx.tree_at(lambda own: own.w, blank.layers[layer + 1], a)
    return _theta(Network((*blank.layers[:layer], inner, outer, *blank.layers[layer + 2 :])))


def _theta(net: Network) -> np.ndarray:
    direction = np.asarray(flatten(net)[0], float)
    return direction / max(np.linalg.norm(direction), _TINY)


def _rank(directions: np.ndarray, flat: np.ndarray) -> int:
    """Of how many directions of the flat space these directions are a part: those they span that lie in it."""
    if not directions.shape[1] or not flat.shape[1]:
        return 0
    u, singular, _ = np.linalg.svd(directions, full_matrices=False)
    spanned = u[:, singular > _SAME * singular[0]]
    # Cosines of the angles between the two spaces: 1 where a direction of one lies in the other.
    return int(np.count_nonzero(np.linalg.svd(flat.T @ spanned, compute_uv=False) > 0.9))
