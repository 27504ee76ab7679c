"""What kind of point a network is at: the spectrum of the Hessian there, and what its zero eigenvalues come from."""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..base.precision import compiled
from ..network import Network
from ..network.symmetries import symmetries
from ..objective import Objective, Theta, flatten

MINIMUM, SADDLE, DEGENERATE, NOT_CRITICAL = "minimum", "strict saddle", "degenerate", "not critical"

# Rounding of a Hessian of P weights is some P eps of its largest eigenvalue; and a point with gradient g is off by
# about |g| / lambda from the point it stands for, which changes eigenvalues by a third derivative times that.
_ROUNDINGS = 16.0
# Vectors count as one where they differ by this much of their size: a student stops some root of its loss short of the
# point that it approaches, and copies approach each other slower than the loss falls.
_SAME = 1e-3


class Degeneracy(NamedTuple):
    """What makes directions flat, and how many."""

    duplicates: tuple[tuple[int, int, int], ...]  # hidden layer and two neurons with one incoming vector
    silent: tuple[tuple[int, int], ...]  # hidden layer and neuron without outgoing weights
    constant: tuple[tuple[int, int], ...]  # hidden layer and neuron without incoming weights
    scales: tuple[tuple[int, int], ...]  # hidden layer and neuron whose norm may move into its outgoing weights
    diverging: tuple[tuple[int, int, int], ...]  # hidden layer and two neurons that make a derivative of one
    accounted: dict[str, int]  # zero eigenvalues that each kind accounts for, those of earlier kinds left out


@dataclass(frozen=True)
class CriticalPoint:
    """A point of the loss, and its kind.

    Attributes:
        loss: There.
        gradient_norm: Euclidean, of the parameters that are free.
        spectrum: Eigenvalues of the Hessian, increasing.
        tolerance: Eigenvalues within it of zero are taken for zero.
        kind: "minimum" (all eigenvalues positive), "strict saddle" (some negative), "degenerate" (none negative, some
            zero: a minimum, perhaps, or a saddle of higher order), or "not critical" (the gradient does not vanish).
        degeneracy: What the zero eigenvalues come from.
    """

    loss: float
    gradient_norm: float
    spectrum: Float[np.ndarray, " free"]
    tolerance: float
    kind: str
    degeneracy: Degeneracy

    @property
    def n_negative(self) -> int:
        """How many eigenvalues are below zero, by more than the tolerance."""
        return int(np.count_nonzero(self.spectrum < -self.tolerance))

    @property
    def n_zero(self) -> int:
        """How many are zero, to the tolerance."""
        return int(np.count_nonzero(np.abs(self.spectrum) <= self.tolerance))

    def summary(self) -> str:
        """In words."""
        found = ", ".join(f"{n} by {what}" for what, n in self.degeneracy.accounted.items() if n) or "none explained"
        return (
            f"{self.kind}: loss {self.loss:.3g}, |gradient| {self.gradient_norm:.2g}, {self.n_negative} negative and "
            f"{self.n_zero} zero of {len(self.spectrum)} eigenvalues within {self.tolerance:.1g} ({found})"
        )


def critical_point(
    net: Network,
    objective: Objective,
    *,
    gradient_norm: float = 1e-6,
    tolerance: float | None = None,
    free: Bool[np.ndarray, " parameters"] | None = None,
) -> CriticalPoint:
    """What kind of point a network is at.

    Args:
        net: One network.
        objective: What it is fitted to.
        gradient_norm: Up to which the point counts as critical.
        tolerance: Of eigenvalues that count as zero; by default what rounding and the rest of the gradient make of one,
            16 P eps of the largest eigenvalue, or the root of the gradient's norm over the largest eigenvalue, times
            the latter, up to a thousandth of it, where the gradient is more than rounding.
        free: Which parameters may move; all, if left out. Frozen ones have no directions.

    Raises:
        ValueError: If `net` is a stack, or a limit is negative.
    """
    if net.is_stack:
        raise ValueError("`net` is one network; got a stack of students: take `student(stack, i)`.")
    if gradient_norm < 0 or (tolerance is not None and tolerance < 0):
        raise ValueError(f"`gradient_norm` and `tolerance` are 0 or above; got {gradient_norm!r}, {tolerance!r}.")
    loss, gradient, hessian = (np.asarray(each, float) for each in _derivatives(net, objective))
    free = np.ones(len(gradient), bool) if free is None else np.asarray(free, bool)
    norm = float(np.linalg.norm(gradient[free]))
    spectrum, directions = np.linalg.eigh(hessian[np.ix_(free, free)])
    if tolerance is None:
        tolerance = _tolerance(spectrum, norm, float(jnp.finfo(net.dtype).eps))
    flat = np.zeros((len(gradient), np.count_nonzero(np.abs(spectrum) <= tolerance)))
    flat[free] = directions[:, np.abs(spectrum) <= tolerance]
    if norm > gradient_norm:
        kind = NOT_CRITICAL
    elif spectrum[0] < -tolerance:
        kind = SADDLE
    else:
        kind = DEGENERATE if flat.shape[1] else MINIMUM
    return CriticalPoint(float(loss), norm, spectrum, tolerance, kind, _degeneracy(net, flat))


@compiled
def _derivatives(net: Network, objective: Objective) -> tuple[Array, Theta, Array]:
    gradient = flatten(objective.gradient(net))[0]
    return objective.value(net), gradient, objective.curvature(net, exact=True)


def _tolerance(spectrum: np.ndarray, norm: float, eps: float) -> float:
    largest = float(np.abs(spectrum).max(initial=0.0))
    if not largest:
        return eps
    rounding = _ROUNDINGS * len(spectrum) * eps
    # Along a direction of curvature k the gradient is k times the way left, along one without it a higher power of the
    # way: a student that creeps along a valley has curvature there of about the root of its gradient. A gradient that
    # is all rounding says nothing of the kind.
    left = norm / largest if norm > rounding * largest else 0.0
    return largest * max(rounding, min(np.sqrt(left), 1e-3))


# --- what flat directions come from -----------------------------------------------------------------------------------


def _degeneracy(net: Network, flat: Float[np.ndarray, "parameters zeros"]) -> Degeneracy:
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
        little = _SAME * max(float(np.median(reach)), np.finfo(float).tiny)
        for i in range(len(vectors)):
            if reach[i] <= little:
                found["silent"].append((layer, i))
                by_kind["silent"] += _moves(net, layer, i, incoming=np.eye(vectors.shape[1]))
            elif np.linalg.norm(vectors[i, :-1]) <= _SAME * max(float(np.median(size)), np.finfo(float).tiny):
                found["constant"].append((layer, i))
                by_kind["constant"] += _constants(net, layer, i, vectors, a)
            if homogeneous[i] and reach[i] > little:
                found["scales"].append((layer, i))
                by_kind["scales"] += _moves(net, layer, i, incoming=vectors[i][None], outgoing=-a[:, i])
            for j in range(i):
                if kind_of[i] != kind_of[j]:
                    continue
                apart = np.linalg.norm(vectors[i] - vectors[j])
                if apart <= _SAME * max(size[i], size[j]):
                    found["duplicates"].append((layer, j, i))
                    by_kind["duplicates"] += _exchanges(net, layer, j, i, a.shape[0])
                elif _cancels(a[:, i], a[:, j], reach) and apart <= 0.3 * max(size[i], size[j]):
                    found["diverging"].append((layer, j, i))
                    by_kind["diverging"] += _exchanges(net, layer, j, i, a.shape[0])
    accounted, known = {}, np.zeros((len(flat), 0))
    for name, directions in by_kind.items():
        before = _rank(known, flat)
        known = np.concatenate([known, *[one[:, None] for one in directions]], axis=1) if directions else known
        accounted[name] = _rank(known, flat) - before
    each = {name: tuple(which) for name, which in found.items()}
    return Degeneracy(**each, accounted=accounted)


def _cancels(one: np.ndarray, other: np.ndarray, reach: np.ndarray) -> bool:
    """Whether two outgoing vectors are large, and their sum is small: two neurons on their way to a derivative."""
    large = min(np.linalg.norm(one), np.linalg.norm(other)) > 5 * float(np.median(reach))
    return bool(large and np.linalg.norm(one + other) < 0.3 * min(np.linalg.norm(one), np.linalg.norm(other)))


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
    return direction / max(np.linalg.norm(direction), np.finfo(float).tiny)


def _rank(directions: np.ndarray, flat: np.ndarray) -> int:
    """Of how many directions of the flat space these directions are a part: those they span that lie in it."""
    if not directions.shape[1] or not flat.shape[1]:
        return 0
    u, singular, _ = np.linalg.svd(directions, full_matrices=False)
    spanned = u[:, singular > _SAME * singular[0]]
    # Cosines of the angles between the two spaces: 1 where a direction of one lies in the other.
    return int(np.count_nonzero(np.linalg.svd(flat.T @ spanned, compute_uv=False) > 0.9))
