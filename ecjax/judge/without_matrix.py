"""How well answers determine the weights of a network whose Jacobian is too large to be written down.

Weights of the first layer along directions that are orthogonal to all its neurons change no pre-activation but those of
questions that lie along them. If such questions come in families, x and x + t v for several v, the differences between
their answers know of nothing else, and the Jacobian falls apart:

* differences along one v: t d(answers)/d(pre-activations), a small matrix for each direction;
* the families' first questions: the Jacobian of a network with as few inputs as its neurons have dimensions. Its
  smallest singular value is bounded by products alone (`ecjax.judge.extremes`), after a change of coordinates in which
  it is nearly well conditioned: the Kronecker factors of each layer, over its inputs and over its neurons.

A linear combination of numbers determines the weights no better than the numbers themselves do, so that the bound is
one for all of them. Without families the network is looked at as it is, in the second way.

Source of the factors: Martens and Grosse, ICML 2015 (arXiv:1503.05671).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ..base.precision import compiled
from ..network import Layer, Network, hidden_states
from ..network.symmetries import symmetries
from ..objective import Inputs, Samples, flatten
from ..objective.derivatives import sensitivities
from ..objective.variation import variation
from .extremes import extremes

_SAME = 1e-9  # of pre-activations that two questions share, in units of their spread
_FLOOR = 1e-6  # of a factor's eigenvalues, in units of its largest: coordinates may be any
_OPERATIONS = 4e3  # of the bound, for each weight and question: a thousand products


class Determined(NamedTuple):
    """How far weights can be from those that make the answers exact.

    Attributes:
        distance: Of all weights, at most.
        pre_activations: Of those of the first hidden layer, root mean square over the queries, or of any weight above.
        condition: Largest over smallest singular value, at most.
    """

    distance: float
    pre_activations: float
    condition: float


class Families(NamedTuple):
    """Questions that differ only in what no neuron of the first layer sees.

    Attributes:
        first: Of each family.
        moved: The other questions.
        of: Each of these differs from which of all questions.
        along: And in which direction.
        step: By how much.
        directions: Orthonormal.
    """

    first: Int[np.ndarray, " families"]
    moved: Int[np.ndarray, " moved"]
    of: Int[np.ndarray, " moved"]
    along: Int[np.ndarray, " moved"]
    step: Float[np.ndarray, " moved"]
    directions: Float[np.ndarray, "directions fan_in"]


def determined(
    network: Network,
    x: Inputs,
    residuals: Float[np.ndarray, "samples fan_out"],
    y_scale: Float[np.ndarray, " fan_out"],
    *,
    numbers_for_each: float,
    affordable: float,
) -> Determined | None:
    """Bounds of the first-order distance |J^+ r| to a network that explains the answers.

    Args:
        network: One network.
        x: Queries.
        residuals: What it answers too much, in units of `y_scale`.
        y_scale: Unit of each output.
        numbers_for_each: Numbers that have to be there for each weight, in each part of the Jacobian.
        affordable: Operations.

    Returns:
        None if it would take more, or numbers are too few. A distance is infinite where products have not shown any.
    """
    if x.dtype != np.float64:
        return None  # products in float32 would say little of small singular values
    fan_out, found = len(y_scale), families(network, x)
    if found is None:
        first, basis = np.arange(len(x)), np.eye(x.shape[1])
        if variation(x).rank < x.shape[1]:
            return None  # weights that no query shows would have to be left out
    else:
        if (np.bincount(found.along) * fan_out < numbers_for_each * network.widths[0]).any():
            return None
        first, basis = found.first, _complement(found.directions)
    bottom = network.layers[0]
    narrow = Network((Layer(bottom.w @ basis, bottom.b, bottom.activation), *network.layers[1:]))
    if len(first) * fan_out < numbers_for_each * narrow.n_parameters:
        return None
    if _OPERATIONS * len(first) * narrow.n_parameters > affordable:
        return None
    seen = np.asarray(x) @ basis
    u, eps = jnp.asarray(seen[first]), float(np.finfo(x.dtype).eps)
    size = np.linalg.norm(np.asarray(u, float), axis=1)
    share = np.minimum(1.0, np.median(size) / np.maximum(size, np.finfo(float).tiny))  # far ones would outweigh all
    share = share / np.sqrt(np.mean(share**2))
    least, most = _singular(narrow, u, share, y_scale)
    noise = np.sqrt(np.mean((share[:, None] * residuals[first]) ** 2)) + eps
    within = noise / least if least > 0 else np.inf
    beyond = stretch = 0.0
    if found is not None:
        by_direction = _along_directions(network, x, found, y_scale)
        differences = residuals[found.moved] - residuals[found.of]
        noise = np.sqrt(np.mean(differences**2)) + np.sqrt(2) * eps
        least, most = min(least, by_direction[0]), max(most, by_direction[1])
        beyond = noise / by_direction[0] if by_direction[0] > 0 else np.inf
        stretch = np.sqrt(np.bincount(found.along, found.step**2).max() / len(x))
    with_bias = np.concatenate([seen, np.ones((len(x), 1))], axis=1)
    widest = np.linalg.svd(np.linalg.qr(with_bias, mode="r"), compute_uv=False)[0] / np.sqrt(len(x))
    distance = float(np.hypot(within, beyond))
    of_states = float(max(distance, within * widest + beyond * stretch)) if np.isfinite(distance) else np.inf
    return Determined(distance, of_states, float(most / least) if least > 0 else np.inf)


def families(network: Network, x: Inputs) -> Families | None:
    """Families of questions that make the same pre-activations, if they move along orthonormal directions."""
    w, b = (np.asarray(each, float) for each in (network.layers[0].w, network.layers[0].b))
    rows = np.asarray(x, float)
    if len(b) >= rows.shape[1] or not network.hidden:
        return None
    z = rows @ w.T + b
    family = _alike(z @ np.random.default_rng(0).standard_normal(len(b)))
    order = np.lexsort((np.linalg.norm(rows, axis=1), family))  # the first of a family is the one nearest to the origin
    firsts = order[np.unique(family[order], return_index=True)[1]]
    of = firsts[family]
    moved = np.flatnonzero(of != np.arange(len(rows)))
    if not len(moved) or np.abs(z[moved] - z[of[moved]]).max() > _SAME * z.std():
        return None
    steps = rows[moved] - rows[of[moved]]
    length = np.linalg.norm(steps, axis=1)
    unit = steps / length[:, None]
    mark = unit @ np.random.default_rng(1).standard_normal(rows.shape[1])
    unit, step = unit * np.sign(mark)[:, None], length * np.sign(mark)
    along = _alike(np.abs(mark))
    directions = unit[np.unique(along, return_index=True)[1]]
    apart = directions @ directions.T - np.eye(len(directions)) if len(directions) < rows.shape[1] else np.inf
    off = [
        apart,
        unit - directions[along],
        rows[firsts] @ directions.T / np.abs(rows).max(),
        directions @ w.T / np.abs(w).max(),
    ]
    if max(np.abs(each).max() for each in off) > _SAME:
        return None
    return Families(firsts, moved, of[moved], along, step, directions)


def _alike(marks: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Numbers that are the same but for rounding have the same index."""
    order = np.argsort(marks)
    is_new = np.diff(marks[order], prepend=-np.inf) > _SAME * marks.std()
    index = np.empty(len(marks), int)
    index[order] = np.cumsum(is_new) - 1
    return index


def _complement(directions: Float[np.ndarray, "directions fan_in"]) -> Float[np.ndarray, "fan_in rest"]:
    """Orthonormal columns beside these directions."""
    return np.linalg.qr(directions.T, mode="complete")[0][:, len(directions) :]


def _along_directions(network: Network, x: Inputs, found: Families, y_scale: np.ndarray) -> tuple[float, float]:
    """Least and largest singular value of the differences by the weights along the directions."""
    which, row = np.unique(found.of, return_inverse=True)
    by_z = sensitivities(network, hidden_states(network, x[which]))[0]  # fan_out, questions, width
    by_z = np.moveaxis(np.asarray(by_z, float), 0, 1) / y_scale[None, :, None]
    width, least, most, ends = by_z.shape[-1], np.inf, 0.0, {}
    order = np.lexsort((row, found.along))
    for mine in np.split(order, np.flatnonzero(np.diff(found.along[order])) + 1):
        alike = (row[mine].tobytes(), found.step[mine].round(9).tobytes())  # many directions have the same questions
        if alike not in ends:
            rows = (by_z[row[mine]] * found.step[mine, None, None]).reshape(-1, width)
            ends[alike] = np.linalg.eigvalsh(rows.T @ rows)[[0, -1]]
        low, high = ends[alike]
        least, most = min(least, low - width * np.finfo(float).eps * high), max(most, high)
    n_numbers = len(found.moved) * len(y_scale)
    return float(np.sqrt(max(least, 0.0) / n_numbers)), float(np.sqrt(most / n_numbers))


def _singular(network: Network, x: Inputs, share: np.ndarray, y_scale: np.ndarray) -> tuple[float, float]:
    """Bounds of the least and the largest singular value of a Jacobian, without what no answer shows.

    In coordinates y, v = F y, the matrix is M = F^T J^T J F. For v orthogonal to the null vectors N that are known
    (scales of neurons), |J v|^2 >= l |y'|^2 with l the least eigenvalue of M beside F^-1 N, and y' what y has beside
    it, of length |v| / |F| at least.
    """
    theta, _ = flatten(network)
    coordinates = _Coordinates(network, x, share, y_scale)
    unit = jnp.asarray(share[:, None] / y_scale / np.sqrt(len(x) * len(y_scale)))
    along, back = Samples(x, jnp.zeros((len(x), len(y_scale)), x.dtype)).products(network)
    whole = np.sqrt(len(x) * len(y_scale))  # which `Samples` divides by

    @compiled
    def normal(v):
        residuals = (along(v) * whole).reshape(unit.shape) * unit
        return back((residuals * unit).reshape(-1) * whole)

    hidden = _rescaled(network)
    hidden = np.linalg.qr(np.stack([coordinates.undone(each) for each in hidden], axis=1))[0] if len(hidden) else None
    beside = lambda v: v if hidden is None else v - hidden @ (hidden.T @ v)

    def product(y: np.ndarray) -> np.ndarray:
        return beside(coordinates(np.asarray(normal(jnp.asarray(coordinates(y), theta.dtype)), float)))

    start = beside(np.random.default_rng(0).standard_normal(len(theta)))
    n = len(theta) - (0 if hidden is None else hidden.shape[1])
    low, _, high = extremes(product, start, n)
    return float(np.sqrt(max(low, 0.0)) / coordinates.longest), float(np.sqrt(high) / coordinates.shortest)


def _rescaled(network: Network) -> list[Float[np.ndarray, " parameters"]]:
    """Changes of the weights that change no answer: of each neuron whose scale is anything, in below and out above."""
    nothing, found = jax.tree.map(jnp.zeros_like, network), []
    for i, layer in enumerate(network.hidden):
        above = network.layers[i + 1]
        for j in np.flatnonzero(symmetries(layer.activation, len(layer.b)).homogeneous):
            layers = list(nothing.layers)
            layers[i] = Layer(layers[i].w.at[j].set(layer.w[j]), layers[i].b.at[j].set(layer.b[j]), layer.activation)
            own = nothing.layers[i + 1]
            column = own.w.at[:, j].set(-above.w[:, j])
            layers[i + 1] = (
                Layer(column, own.b, above.activation) if i + 2 < len(network.layers) else Layer(column, own.b)
            )
            found.append(np.asarray(flatten(Network(tuple(layers)))[0], float))
    return found


class _Coordinates:
    """v = F y, layer by layer: F the inverse root of (neurons' factor) x (inputs' factor), symmetric."""

    def __init__(self, network: Network, x: Inputs, share: np.ndarray, y_scale: np.ndarray):
        states = hidden_states(network, x)
        back = [
            np.moveaxis(np.asarray(each, float), 0, 1) / y_scale[None, :, None]
            for each in sensitivities(network, states)
        ]
        self.factors, sizes = [], []
        for i, layer in enumerate(network.layers):
            h = np.asarray(x if i == 0 else states[i - 1].h, float)
            h = share[:, None] * np.concatenate([h, np.ones((len(h), 1))], axis=1)
            if i < len(back):
                rows = share[:, None, None] * back[i]
                neurons = np.einsum("nki,nkj->ij", rows, rows) / (len(x) * len(y_scale))
            else:
                neurons = np.diag(1 / (len(y_scale) * y_scale**2))
            (over, of_neurons), (across, of_inputs) = _root(neurons), _root(h.T @ h / len(x))
            self.factors.append((over, across, layer.w.shape))
            sizes += [of_neurons[0] * of_inputs[0], of_neurons[1] * of_inputs[1]]
        self.shortest, self.longest = float(min(sizes)), float(max(sizes))

    def __call__(self, y: Float[np.ndarray, " parameters"]) -> Float[np.ndarray, " parameters"]:
        return self._each(y, [(over, across) for over, across, _ in self.factors])

    def undone(self, v: Float[np.ndarray, " parameters"]) -> Float[np.ndarray, " parameters"]:
        """F^-1 v."""
        return self._each(v, [(np.linalg.inv(over), np.linalg.inv(across)) for over, across, _ in self.factors])

    def _each(self, v, pairs):
        parts, at = [], 0
        for (over, across), (_, _, (n_out, n_in)) in zip(pairs, self.factors, strict=True):
            w, b = v[at : at + n_out * n_in].reshape(n_out, n_in), v[at + n_out * n_in : at + n_out * (n_in + 1)]
            turned = over @ np.concatenate([w, b[:, None]], axis=1) @ across
            parts += [turned[:, :-1].reshape(-1), turned[:, -1]]
            at += n_out * (n_in + 1)
        return np.concatenate(parts)


def _root(matrix: Float[np.ndarray, "n n"]) -> tuple[Float[np.ndarray, "n n"], tuple[float, float]]:
    """The inverse root of a positive semidefinite matrix, and its least and largest eigenvalue."""
    values, vectors = np.linalg.eigh(matrix)
    roots = 1 / np.sqrt(np.maximum(values, _FLOOR * values[-1]))
    return (vectors * roots) @ vectors.T, (float(roots.min()), float(roots.max()))
