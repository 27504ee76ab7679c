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
4. *What follows from a flip* (`align`), by the law of `ecjax.network.activations`: the sign of the outgoing weights, a
   constant in the next bias, and for even + linear activations a linear map of the layer's inputs.

Neurons are rows (w, b) of one matrix here, the bias last; on the host, in float64.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from ..network.activations import Symmetry

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
    shifted = inputs - inputs[0]  # exactly zero where an input is constant, which subtracting the mean is not
    shift = shifted.mean(axis=0)
    factor = np.linalg.qr(shifted - shift, mode="r")  # not the covariance: its square root would lose half the digits
    _, spread, directions = np.linalg.svd(factor)
    rank = np.count_nonzero(spread > max(inputs.shape) * np.finfo(float).eps * np.max(spread, initial=0.0))
    mean = inputs[0] + shift
    root = np.block(
        [[factor / np.sqrt(len(inputs)), np.zeros((len(factor), 1))], [mean[None, :], np.ones((1, 1))]]
    )  # centred inputs and the constant are orthogonal
    return View(mean, directions[rank:].T, root)


def canonical(inner: Vectors, outer: Vectors, view: View, symmetry: Symmetry) -> tuple[Vectors, Vectors]:
    """One representative of each neuron's scale and phase: incoming vectors, and outgoing weights with next biases."""
    inner, outer = inner.copy(), outer.copy()
    if symmetry.homogeneous:
        norm = np.linalg.norm(inner @ view.root.T, axis=1)
        norm[norm == 0] = 1
        inner /= norm[:, None]
        outer[:, :-1] *= norm
    if symmetry.antiperiod is not None:
        turns = -np.round(inner @ view.root[-1] / symmetry.antiperiod)
        inner[:, -1] += turns * symmetry.antiperiod
        outer[:, :-1] *= (-1.0) ** turns
    return inner, outer


class Match(NamedTuple):
    """Partners of the teacher's neurons, and how they are brought near."""

    partner: Int[np.ndarray, " width"]  # -1 where missing
    sign: Int[np.ndarray, " width"]
    turns: PerNeuron  # antiperiods added to the partner's bias, after the sign
    distance: PerNeuron
    excess: Int[np.ndarray, " excess"]


def match_neurons(ours: Vectors, theirs: Vectors, view: View, symmetry: Symmetry, tolerance: float) -> Match:
    """Partners one to one, at the smallest sum of relative distances of pre-activations, none beyond `tolerance`."""
    u, v = theirs @ view.root.T, ours @ view.root.T
    pairs = (len(u), len(v))
    distance, sign, turns = np.full(pairs, np.inf), np.ones(pairs, int), np.zeros(pairs)
    for s in (1, -1) if symmetry.is_sign_free else (1,):
        for i, one in enumerate(u):  # a row at a time: all pairs at once would not fit in memory for images
            candidates, turn = s * v, np.zeros(len(v))
            if symmetry.antiperiod is not None:
                turn = np.round((one[-1] - candidates[:, -1]) / symmetry.antiperiod)
                candidates[:, -1] += turn * symmetry.antiperiod
            apart = relative_distance(one, candidates)
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
    ours: Vectors, outer: Vectors, match: Match, symmetry: Symmetry
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
    bias = outer[:, -1] + symmetry.constant * a_flipped.sum(axis=1)
    linear_map = symmetry.linear * a_flipped @ vectors
    if symmetry.antiperiod is not None:
        vectors[:, -1] += turns * symmetry.antiperiod
    a = a * np.where(sign < 0, symmetry.parity, 1) * (-1.0) ** turns
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
