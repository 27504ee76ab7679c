"""Bringing the neurons of one network to another's representative of the same function.

Two networks with different weights can be the same function. What no input can tell apart is removed a layer at a
time, no step changing what the network computes:

1. *Unseen directions* (`View.fold`). Along a direction in which a layer's inputs never vary, weights can't be told
   from the bias: that part of an incoming weight vector moves into the bias.
2. *Scale and phase* (`canonical`). Neurons of positive homogeneous activations get pre-activations of root mean square
   1 (and not weights of norm 1, of which those of pixels that hardly ever light up may be anything); with an antiperiod
   p, mean pre-activations move within p/2 of 0.
3. *Partners* (`match_neurons`). The neurons of both are matched one to one by optimal assignment, each of ours with the
   sign and the phase that bring it nearest to theirs.
4. *What follows from a flip* (`align`), by the law of `ecjax.network.activation`: the sign of the outgoing weights, a
   constant in the next bias, and for even + linear activations a linear map of the layer's inputs.

Neurons are rows (w, b) of one matrix here, the bias last; on the host, in float64.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from ..network.symmetries import Symmetries
from ..objective.variation import variation

Vectors = Float[np.ndarray, "_neurons _inputs"]  # rows (w, b): the bias last; names differ from layer to layer
PerNeuron = Float[np.ndarray, " width"]


class View(NamedTuple):
    """What a layer sees: the moments of its inputs."""

    mean: Float[np.ndarray, " inputs"]
    unseen: Float[np.ndarray, "inputs unseen"]  # orthonormal directions in which the inputs do not vary
    root: Vectors  # |root u|² is the mean square of the pre-activation of u; its last entry is the mean

    def fold(self, vectors: Vectors) -> Vectors:
        """The same pre-activations with nothing along unseen directions; what was there is in the bias."""
        if not self.unseen.shape[1]:
            return vectors
        along = vectors[:, :-1] @ self.unseen
        bias = vectors[:, -1] + along @ (self.mean @ self.unseen)
        return np.hstack([vectors[:, :-1] - along @ self.unseen.T, bias[:, None]])


def look(inputs: Float[np.ndarray, "samples inputs"]) -> View:
    """The moments of a layer's inputs, and the directions in which they do not vary (to rounding)."""
    seen = variation(inputs)
    shifted = inputs - inputs[0]  # exactly zero where an input is constant, which subtracting the mean is not
    factor = np.linalg.qr(shifted - shifted.mean(axis=0), mode="r")  # the covariance's root would lose half the digits
    root = np.block(
        [[factor / np.sqrt(len(inputs)), np.zeros((len(factor), 1))], [seen.mean[None, :], np.ones((1, 1))]]
    )  # centred inputs and the constant are orthogonal
    return View(seen.mean, seen.unseen, root)


def canonical(inner: Vectors, outer: Vectors, view: View, symmetry: Symmetries) -> tuple[Vectors, Vectors]:
    """One representative of each neuron's scale and phase: incoming vectors, and outgoing weights with next biases."""
    inner, outer = inner.copy(), outer.copy()
    norm = np.linalg.norm(inner @ view.root.T, axis=1)
    norm[(norm == 0) | ~symmetry.homogeneous] = 1
    inner /= norm[:, None]
    outer[:, :-1] *= norm
    periodic = np.isfinite(symmetry.antiperiod)
    turns = -np.round((inner @ view.root[-1])[periodic] / symmetry.antiperiod[periodic])
    inner[periodic, -1] += turns * symmetry.antiperiod[periodic]
    outer[:, :-1][:, periodic] *= (-1.0) ** turns
    return inner, outer


class Match(NamedTuple):
    """Partners of the teacher's neurons, and how they are brought near."""

    partner: Int[np.ndarray, " width"]  # -1 where missing
    sign: Int[np.ndarray, " width"]
    turns: PerNeuron  # antiperiods added to the partner's bias, after the sign
    distance: PerNeuron
    excess: Int[np.ndarray, " excess"]


def match_neurons(
    ours: Vectors, theirs: Vectors, view: View, of_ours: Symmetries, of_theirs: Symmetries, tolerance: float
) -> Match:
    """Partners one to one, at the smallest sum of relative distances of pre-activations, none beyond `tolerance`.

    Neurons of different activations are never partners.
    """
    u, v = theirs @ view.root.T, ours @ view.root.T
    pairs = (len(u), len(v))
    distance, sign, turns = np.full(pairs, np.inf), np.ones(pairs, int), np.zeros(pairs)
    kinds = [(kind.fn, kind.symmetry) for kind in of_ours.each]
    for i, one in enumerate(u):  # a row at a time: all pairs at once would not fit in memory for images
        kind, period = of_theirs.each[i], of_theirs.antiperiod[i]
        same = np.array([other == (kind.fn, kind.symmetry) for other in kinds], bool)
        for s in (1, -1) if kind.symmetry.is_sign_free else (1,):
            candidates, turn = s * v, np.zeros(len(v))
            if np.isfinite(period):
                turn = np.round((one[-1] - candidates[:, -1]) / period)
                candidates[:, -1] += turn * period
            apart = np.where(same, relative_distance(one, candidates), np.inf)
            nearer = apart < distance[i]
            distance[i, nearer], sign[i, nearer], turns[i, nearer] = apart[nearer], s, turn[nearer]
    # Cut off at the tolerance, so that a pair too far apart to be partners does not pull others from theirs.
    rows, columns = linear_sum_assignment(np.minimum(distance, tolerance))
    near = distance[rows, columns] < tolerance
    rows, columns = rows[near], columns[near]
    match = Match(
        partner=np.full(len(u), -1),
        sign=np.zeros(len(u), int),
        turns=np.zeros(len(u)),
        distance=np.full(len(u), np.nan),
        excess=np.setdiff1d(np.arange(len(v)), columns),
    )
    match.partner[rows], match.distance[rows] = columns, distance[rows, columns]
    match.sign[rows], match.turns[rows] = sign[rows, columns], turns[rows, columns]
    return match


def align(
    ours: Vectors, outer: Vectors, match: Match, symmetry: Symmetries
) -> tuple[Vectors, Vectors, Float[np.ndarray, " fan_out"], Vectors]:
    """The partners as the teacher's neurons stand, without changing the function.

    Returns:
        Their incoming vectors (NaN where missing), their outgoing weights (0 where missing), the next bias, and the
        linear map of the layer's inputs that flipping them leaves behind.
    """
    found = match.partner >= 0
    partner, sign, turns = match.partner[found], match.sign[found], match.turns[found]
    vectors, a = sign[:, None] * ours[partner], outer[:, partner]
    a_flipped = a * (sign < 0)
    bias = outer[:, -1] + a_flipped @ symmetry.constant[partner]
    linear_map = (a_flipped * symmetry.linear[partner]) @ vectors
    vectors[:, -1] += turns * np.nan_to_num(symmetry.antiperiod[partner])
    a = a * np.where(sign < 0, symmetry.parity[partner], 1) * (-1.0) ** turns
    incoming = np.full((len(found), ours.shape[1]), np.nan)
    outgoing = np.zeros((len(outer), len(found)))
    incoming[found], outgoing[:, found] = vectors, a
    return incoming, outgoing, bias, linear_map


def relative_distance(
    u: Float[np.ndarray, "*#neurons inputs"], v: Float[np.ndarray, "*#neurons inputs"]
) -> Float[np.ndarray, "..."]:
    """|u - v|² / (|u|² + |v|²): the cosine distance where norms agree, 1 for a zero vector and any other."""
    size = (u**2).sum(axis=-1) + (v**2).sum(axis=-1)
    return ((u - v) ** 2).sum(axis=-1) / np.where(size > 0, size, 1)


def cosine_distance(
    u: Float[np.ndarray, "*#neurons inputs"], v: Float[np.ndarray, "*#neurons inputs"]
) -> Float[np.ndarray, "..."]:
    """1 - cos, as half the squared distance of the unit vectors, which does not cancel for vectors nearly alike.

    1 for a zero vector and any other.
    """
    norms = [np.linalg.norm(w, axis=-1, keepdims=True) for w in (u, v)]
    u, v = (w / np.where(norm == 0, 1, norm) for w, norm in zip((u, v), norms, strict=True))
    one_is_zero = (norms[0] == 0) != (norms[1] == 0)
    return np.where(one_is_zero[..., 0], 1.0, ((u - v) ** 2).sum(axis=-1) / 2)
