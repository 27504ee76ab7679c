"""What makes a network's loss flat: copies, silent and constant neurons, scales, and pairs that run to infinity."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

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

    duplicates: tuple[tuple[int, int, int], ...]  # hidden layer and two neurons that are one, up to a symmetry
    silent: tuple[tuple[int, int], ...]  # hidden layer and neuron without outgoing weights
    constant: tuple[tuple[int, int], ...]  # hidden layer and neuron without incoming weights
    scales: tuple[tuple[int, int], ...]  # hidden layer and neuron whose norm may move into its outgoing weights
    diverging: tuple[tuple[int, int, int], ...]  # hidden layer and two neurons that make a derivative of one
    accounted: dict[str, int]  # zero eigenvalues that each kind accounts for, those of earlier kinds left out


def degeneracy(net: Network, flat: Float[np.ndarray, "parameters zeros"]) -> Degeneracy:
    """Directions of each kind, and how much of the flat space they span beyond those of the kinds before."""
    names = ("diverging", "silent", "constant", "scales", "duplicates")
    found: dict[str, list] = {name: [] for name in names}
    directions: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for layer in range(len(net.widths)):
        neurons = _Neurons.of(net, layer)
        diverging = [pair for pair in neurons.pairs if pair.apart <= _NEAR and neurons.cancel(pair)]
        others = np.setdiff1d(np.arange(len(neurons.size)), [(pair.one, pair.other) for pair in diverging])
        for pair in diverging:
            found["diverging"].append((layer, pair.one, pair.other))
            directions["diverging"] += _exchanges(net, layer, pair)
        little = _SAME * max(float(np.median(neurons.reach[others])) if len(others) else 0.0, _TINY)
        small = _SAME * max(float(np.median(neurons.size)), _TINY)
        for i, vector in enumerate(neurons.vectors):
            if neurons.reach[i] <= little:
                found["silent"].append((layer, i))
                directions["silent"] += _moves(net, layer, i, incoming=np.eye(len(vector)))
            elif np.linalg.norm(vector[:-1]) <= small:
                found["constant"].append((layer, i))
                directions["constant"] += _constants(net, layer, i, vector, neurons.outgoing)
            if neurons.homogeneous[i] and neurons.reach[i] > little:
                found["scales"].append((layer, i))
                directions["scales"] += _moves(net, layer, i, incoming=vector[None], outgoing=-neurons.outgoing[:, i])
        for pair in neurons.pairs:
            if pair.apart <= _SAME and pair not in diverging:
                found["duplicates"].append((layer, pair.one, pair.other))
                directions["duplicates"] += _exchanges(net, layer, pair)
    accounted, known = {}, np.zeros((len(flat), 0))
    for name in names:
        before = _rank(known, flat)
        known = np.concatenate([known, *[one[:, None] for one in directions[name]]], axis=1)
        accounted[name] = _rank(known, flat) - before
    return Degeneracy(**{name: tuple(which) for name, which in found.items()}, accounted=accounted)


class _Pair(NamedTuple):
    """Two neurons that may be copies. Neuron `other` is `parity` times a neuron with `sign` times its vector, plus a
    constant; `apart` is how far that one is from neuron `one`, of the larger of the two, scales of relus left out.
    """

    one: int
    other: int
    sign: int
    parity: float
    constant: float
    apart: float
    scale: float  # of `other` over `one`; 1 where scales are no symmetry


class _Neurons(NamedTuple):
    """The neurons of a layer, and which of them may be copies of each other."""

    vectors: Float[np.ndarray, "width inputs"]  # incoming, with the bias
    outgoing: Float[np.ndarray, "fan_out width"]
    size: Float[np.ndarray, " width"]
    reach: Float[np.ndarray, " width"]
    homogeneous: Bool[np.ndarray, " width"]
    pairs: list[_Pair]

    @staticmethod
    def of(net: Network, layer: int) -> "_Neurons":
        """Of one hidden layer."""
        inner = net.layers[layer]
        vectors = np.concatenate([np.asarray(inner.w, float), np.asarray(inner.b, float)[:, None]], axis=1)
        outgoing = np.asarray(net.layers[layer + 1].w, float)
        size, reach = np.linalg.norm(vectors, axis=1), np.linalg.norm(outgoing, axis=0)
        laws = symmetries(inner.activation, len(vectors))
        pairs = []
        for j in range(len(vectors)):
            for i in range(j):
                if laws.each[i] is not laws.each[j]:
                    continue
                scale = size[j] / max(size[i], _TINY) if laws.homogeneous[i] else 1.0
                larger = size[i] if laws.homogeneous[i] else max(size[i], size[j])
                there = vectors[j] / max(scale, _TINY)
                apart = lambda sign, there=there, i=i, larger=larger: (
                    np.linalg.norm(vectors[i] - sign * there) / max(larger, _TINY)
                )
                turns = laws.parity[i] != 0 and laws.linear[i] == 0 and apart(-1) < apart(1)
                sign, parity, constant = (-1, laws.parity[i], laws.constant[i]) if turns else (1, 1.0, 0.0)
                pairs.append(_Pair(i, j, sign, float(parity), float(constant), float(apart(sign)), float(scale)))
        return _Neurons(vectors, outgoing, size, reach, laws.homogeneous, pairs)

    def cancel(self, pair: _Pair) -> bool:
        """Whether the two outgoing vectors are large, and nearly cancel: two neurons on their way to a derivative."""
        one, other = self.outgoing[:, pair.one], pair.parity * pair.scale * self.outgoing[:, pair.other]
        smaller = min(np.linalg.norm(one), np.linalg.norm(other))
        return bool(smaller > _LARGE * float(self.reach.min()) and np.linalg.norm(one + other) < _NEAR * smaller)


def _blank(net: Network) -> Network:
    return Network(tuple(eqx.tree_at(lambda own: (own.w, own.b), one, (one.w * 0, one.b * 0)) for one in net.layers))


def _moves(net: Network, layer: int, neuron: int, *, incoming: np.ndarray, outgoing: np.ndarray | None = None):
    """Directions that change one neuron's incoming vector, one for each row, and its outgoing weights."""
    blank = _blank(net)
    inner, outer = blank.layers[layer], blank.layers[layer + 1]
    a = outer.w if outgoing is None else outer.w.at[:, neuron].set(jnp.asarray(outgoing, outer.w.dtype))
    directions = []
    for row in incoming:
        w = inner.w.at[neuron].set(jnp.asarray(row[:-1], inner.w.dtype))
        directions.append(_with(blank, layer, inner=(w, inner.b.at[neuron].set(row[-1])), outer=(a, outer.b)))
    return directions


def _exchanges(net: Network, layer: int, pair: _Pair):
    """Directions that move outgoing weights from one copy to the other, and incoming vectors against each other.

    Of copies i, j with outgoing weights a, b: weights may be exchanged; and where the exchange is of incoming vectors,
    b v for one and -a v for the other leave the sum a w + b w to first order, with one output also its curvature. Of
    copies up to a sign, fn(-z) = parity fn(z) + constant, so that fn'(-z) = -parity fn'(z).
    """
    directions = []
    blank = _blank(net)
    inner, outer = blank.layers[layer], blank.layers[layer + 1]
    for k in range(outer.w.shape[0]):
        a = outer.w.at[k, pair.one].set(pair.scale).at[k, pair.other].set(-pair.parity)
        b = outer.b.at[k].set(pair.parity * pair.constant)
        directions.append(_with(blank, layer, outer=(a, b)))
    a = np.asarray(net.layers[layer + 1].w, float)[:, [pair.one, pair.other]] * [1.0, pair.parity * pair.sign]
    if len(a) > 1 and np.linalg.matrix_rank(a, tol=_SAME * np.abs(a).max(initial=_TINY)) == 2:
        return directions
    shares = np.linalg.svd(a)[2][-1]
    for row in np.eye(inner.w.shape[1] + 1):
        w, b = inner.w, inner.b
        for neuron, share in zip((pair.one, pair.other), shares, strict=True):
            w, b = w.at[neuron].set(share * row[:-1]), b.at[neuron].set(share * row[-1])
        directions.append(_with(blank, layer, inner=(w, b)))
    return directions


def _constants(net: Network, layer: int, neuron: int, vector: np.ndarray, a: np.ndarray):
    """A constant neuron's height may be moved into the next layer's biases, by its outgoing weights or its own bias."""
    blank = _blank(net)
    inner, outer = blank.layers[layer], blank.layers[layer + 1]
    activation, z = net.layers[layer].activation.take([neuron]), jnp.asarray(vector[-1:])
    height, slope = activation.fn(z)[0], activation.d1(z)[0]  # pyright: ignore[reportAttributeAccessIssue]
    directions = [
        _with(blank, layer, outer=(outer.w.at[k, neuron].set(1.0), outer.b.at[k].set(-height))) for k in range(len(a))
    ]
    paid = (outer.w, -slope * jnp.asarray(a[:, neuron], outer.b.dtype))
    return [*directions, _with(blank, layer, inner=(inner.w, inner.b.at[neuron].set(1.0)), outer=paid)]


def _with(blank: Network, layer: int, *, inner=None, outer=None) -> np.ndarray:
    """The unit direction that has these weights and biases in a hidden layer and in the one above, and zeros else."""
    layers = list(blank.layers)
    for place, weights in ((layer, inner), (layer + 1, outer)):
        if weights is not None:
            layers[place] = eqx.tree_at(lambda own: (own.w, own.b), layers[place], weights)
    direction = np.asarray(flatten(Network(tuple(layers)))[0], float)
    return direction / max(np.linalg.norm(direction), _TINY)


def _rank(directions: np.ndarray, flat: np.ndarray) -> int:
    """Of how many directions of the flat space these directions are a part: those they span that lie in it."""
    if not directions.shape[1] or not flat.shape[1]:
        return 0
    u, singular, _ = np.linalg.svd(directions, full_matrices=False)
    spanned = u[:, singular > _SAME * singular[0]]
    # Cosines of the angles between the two spaces: 1 where a direction of one lies in the other.
    return int(np.count_nonzero(np.linalg.svd(flat.T @ spanned, compute_uv=False) > 0.9))
