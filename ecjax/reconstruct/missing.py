"""The neuron that a network lacks, among candidates: the one that explains most of what it leaves.

At a minimum the residuals r are orthogonal to all that a network's own weights can do; so what explains them is what it
lacks. To first order a neuron with responses f, and outgoing weights a to the next layer, whose pre-activations z the
answers y depend on, changes these by

    f (dy/dz) a,

and the share of r that the best a explains tells the missing neuron from all others that students ever had (40-32-24-
16-6 sigmoid, one of 32 neurons missing: 0.39 for the four students' vectors within 3e-3 of it, at most 0.03 for 236
others; 0.014 for the best of 200 random ones). Of f only that counts which the neurons of its layer do not do already.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..base.precision import in_full_precision
from ..network import Network, hidden_states
from ..network.moves import grow, with_layers
from ..objective import Samples
from ..objective.derivatives import sensitivities
from .output import Neurons, responses

Vectors = Float[np.ndarray, "_ _"]  # candidates, inputs and the bias

_ROWS = 3000  # on which candidates are compared
_RIDGE = 1e-9  # of the mean eigenvalue: neurons of the next layer may be copies
_DRAWN = 200  # random candidates for a neuron


@dataclass(frozen=True)
class Held:
    """Neurons that students had in each hidden layer.

    Those above the first are told by their pre-activations, which stay theirs when the layers below become others.

    Attributes:
        first: Incoming vectors of those in the first hidden layer.
        above: Pre-activations of the others, layer by layer, of the first samples.
    """

    first: Vectors
    above: tuple[Float[np.ndarray, "samples _"], ...]

    @classmethod
    def by(cls, net: Network, samples: Samples, vectors: Sequence[Vectors]) -> "Held":
        """Those of these incoming vectors, in the answers of this network's layer below."""
        first, *above = vectors
        below = _answers_below(net, samples)
        return cls(first, tuple(inputs @ each.T for inputs, each in zip(below, above, strict=True)))

    def vectors(self, net: Network, samples: Samples) -> list[Vectors]:
        """Incoming vectors in this network, by least squares where its layers below are others, layer by layer."""
        below = _answers_below(net, samples)
        pairs = zip(below, self.above, strict=True)
        return [self.first, *(np.linalg.lstsq(inputs, z, rcond=None)[0].T for inputs, z in pairs)]


class Missing(NamedTuple):
    """A neuron that explains some of what a network leaves.

    Attributes:
        share: Of the residuals' squares.
        layer: The hidden layer that it belongs to.
        vector: Incoming weights and bias.
        outgoing: To each neuron of the next layer.
        instead: What the layer's neurons, and the next one's biases, did in its place, in units of its answers.
    """

    share: float
    layer: int
    vector: Float[np.ndarray, " _"]
    outgoing: Float[np.ndarray, " _"]
    instead: Float[np.ndarray, " _"]

    def within(self, net: Network) -> Network:
        """The network with this neuron."""
        *w, b = self.vector
        wider = grow(net, jnp.asarray(w), float(b), jnp.asarray(self.outgoing), layer=self.layer)
        outer, change = wider.layers[self.layer + 1], np.outer(self.outgoing, self.instead)
        relieved = replace(outer, w=outer.w.at[:, :-1].add(-change[:, :-1]), b=outer.b - change[:, -1])
        return with_layers(wider, self.layer, wider.layers[self.layer], relieved)


def with_room(net: Network, samples: Samples, n: int, *, seed: int) -> Network:
    """The network with so many more neurons in each hidden layer, which change what it answers by little.

    Each is the one of some random vectors that explains most of what is left.

    Args:
        net: Whose neurons may do the work of others, or of several.
        samples: Queries and targets.
        n: How many neurons each hidden layer gets.
        seed: Of the random vectors.
    """
    rng = np.random.default_rng(seed)
    for layer in range(len(net.widths)):
        inputs = np.asarray([samples.x, *(state.h for state in hidden_states(net, samples.x))][layer][:_ROWS], float)
        for _ in range(n):
            net = _best_in(net, samples, layer, _seen_vectors(inputs, rng)).within(net)
    return net


def _seen_vectors(inputs: Float[np.ndarray, "samples fan_in"], rng: np.random.Generator) -> Vectors:
    """Random vectors whose pre-activations have a deviation of 1, and means of as much."""
    w = rng.standard_normal((_DRAWN, inputs.shape[1]))
    z = inputs @ w.T
    spread = z.std(axis=0) + np.finfo(float).tiny
    return np.column_stack([w / spread[:, None], rng.standard_normal(_DRAWN) - z.mean(axis=0) / spread])


def most_wanted(net: Network, samples: Samples, held: Sequence[Vectors]) -> Missing:
    """The candidate that explains most of what the network leaves, of those for each hidden layer."""
    best = (_best_in(net, samples, layer, vectors) for layer, vectors in enumerate(held) if len(vectors))
    return max(best, key=lambda missing: missing.share)


@in_full_precision
def _answers_below(net: Network, samples: Samples) -> list[Float[np.ndarray, "samples _"]]:
    """What each hidden layer but the first sees of the first samples, and a column of ones."""
    states = hidden_states(net, samples.x[:_ROWS])[: len(net.widths) - 1]
    return [np.column_stack([np.asarray(state.h, float), np.ones(len(state.h))]) for state in states]


@in_full_precision
def _best_in(net: Network, samples: Samples, layer: int, vectors: Vectors) -> Missing:
    samples = samples.take(jnp.arange(min(len(samples.x), _ROWS)))
    states = hidden_states(net, samples.x)
    left = np.asarray(-samples.errors(net), float)
    fan_out, last = left.shape[1], len(net.widths) - 1
    itself = np.broadcast_to(np.eye(fan_out)[:, None], (fan_out, len(left), fan_out))
    by_z = itself if layer == last else np.asarray(sensitivities(net, states)[layer + 1], float)
    inputs = [samples.x, *(state.h for state in states)]
    candidates = responses(Neurons(vectors, net.hidden[layer].activation), inputs[layer])
    present = np.column_stack([inputs[layer + 1], np.ones(len(left))])
    instead = np.linalg.lstsq(present, candidates, rcond=None)[0]
    share, outgoing = explained(candidates - present @ instead, by_z, left)
    first = int(np.argmax(share))
    return Missing(float(share[first]), layer, vectors[first], outgoing[first], instead[:, first])


def explained(
    candidates: Float[np.ndarray, "samples candidates"],
    by_z: Float[np.ndarray, "fan_out samples width"],
    left: Float[np.ndarray, "samples fan_out"],
) -> tuple[Float[np.ndarray, " candidates"], Float[np.ndarray, "candidates width"]]:
    """The share of the residuals that each candidate explains to first order, and its outgoing weights for that.

    Args:
        candidates: Their responses, without what others make good for.
        by_z: Derivatives of the answers by the next layer's pre-activations.
        left: Residuals, targets minus answers.
    """
    width = by_z.shape[-1]
    squares = np.einsum("onk,onl->nkl", by_z, by_z).reshape(len(left), -1)
    grams = (candidates.T**2 @ squares).reshape(-1, width, width)
    wanted = candidates.T @ np.einsum("onk,no->nk", by_z, left)
    ridge = _RIDGE * np.trace(grams, axis1=1, axis2=2) / width + np.finfo(float).tiny
    outgoing = np.linalg.solve(grams + ridge[:, None, None] * np.eye(width), wanted[..., None])[..., 0]
    return np.einsum("ck,ck->c", outgoing, wanted) / (np.sum(left**2) + np.finfo(float).tiny), outgoing
