"""Neurons swapped: those that a large network lacks come in, those that it has no need of go.

Layers found one by one may lack a neuron that too few students held, or have one too many that two students held by
chance. Once all are there, the network is nearly right, and small, and says so itself. At its minimum the residuals r
are orthogonal to all that its own weights can do; so what explains them is what it lacks. To first order a neuron with
responses f, and outgoing weights a to the next layer, whose pre-activations z the answers y depend on, changes these by

    f (dy/dz) a,

and the share of r that the best a explains tells the missing neuron from all others that students ever had (40-32-24-
16-6 sigmoid, one of 32 neurons missing: 0.39 for the four students' vectors within 3e-3 of it, at most 0.03 for 236
others; 0.014 for the best of 200 random ones). Of f only that counts which the neurons of its layer do not do already.

What can go, where the network is still not exact, is tried: two neurons that do the work of one (`pairs`), and those
without which least squares do best. Refinement judges. From an exact network needless neurons go in
`eliminate_in_all_layers`. Weights that nearly nothing depends on begin anew (`faint`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..base.deadline import NEVER, Deadline
from ..base.precision import in_full_precision
from ..expand import Stopping, fewer
from ..judge import Judge
from ..network import Network, hidden_states
from ..network.moves import grow, with_layers
from ..objective import Samples
from ..objective.derivatives import sensitivities
from .eliminate import removal, removals
from .faint import Directions, faintest_first, without_faint
from .finetune import ANSWERS, QUICK_PATIENCE, quick_steps
from .output import Neurons, responses
from .pairs import joined, parallel_pairs

Vectors = Float[np.ndarray, "_ _"]  # candidates, inputs and the bias

_WORTH = 0.1  # share of the residuals that a neuron explains if it is missing; others do not reach a third of it
_LACKING = 0.25  # of the neurons of the widest layer may come in
_TRIED = 3  # of the neurons that cost least; a missing one's twin may cost more than the least of the teacher's
_PROGRESS = 2.0  # by which refinement has to lower a loss to be repeated
_STEPS = 30  # of a refinement that judges, which is at its minimum after ten to thirty
_ROWS = 3000  # on which candidates are compared
_RIDGE = 1e-9  # of the mean eigenvalue: neurons of the next layer may be copies


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


def swapped(
    net: Network,
    samples: Samples,
    held: Sequence[Vectors],
    *,
    stop: Stopping,
    judge: Judge,
    deadline: Deadline = NEVER,
) -> Network:
    """The network with the neurons that it lacks, and without those that keep it from being exact.

    Args:
        net: Nearly right, with smooth hidden layers of one activation each.
        samples: Queries and targets in units of their deviation.
        held: For each hidden layer the incoming vectors (w, b) of students' neurons, in the answers of the layer below.
        stop: When a refinement stops at the latest.
        judge: What counts as exact.
        deadline: After which no neuron is tried.
    """
    some, held = fewer(samples, net, ANSWERS), list(held)
    most = max(1, int(_LACKING * max(net.widths)))
    widths = [width + most for width in net.widths]  # one compiled program for all that is tried
    target = max(stop.target_loss, min(judge.rounding, judge.limit))
    stop = Stopping(max_steps=_STEPS, patience=QUICK_PATIENCE, gradient_norm=0.0, target_loss=target)
    refine = lambda net, careful=False: quick_steps(net, some, stop=stop, widths=widths, careful=careful)

    net, loss = refine(net)
    for _ in range(most):
        missing = most_wanted(net, some, held)
        if judge.fits(loss) or missing.share < _WORTH or deadline.leaves_out("neurons that the network lacks"):
            break
        net, loss = refine(missing.within(net))
        above = missing.layer + 1
        if above < len(held):  # students above have never seen it
            held[above] = np.insert(held[above], -1, 0, axis=1)
    if loss <= target:
        return net
    directions = faintest_first(some.x)
    while loss > target and not deadline.leaves_out("neurons that the network does not need"):
        better = next(_better(net, loss, some, directions, judge, refine), None)
        if better is None:
            break
        net, loss = better
    return net


def _better(
    net: Network, loss: float, samples: Samples, directions: Directions, judge: Judge, refine
) -> Iterator[tuple[Network, float]]:
    """Networks that do as well with a neuron less, or better with as many, and their losses; cheap moves first."""
    layers, is_wrong = range(len(net.widths)), not judge.fits(loss)
    pairs = [(layer, pair) for layer in layers for pair in parallel_pairs(net, layer)] if is_wrong else []
    for layer, pair in pairs[:_TRIED]:
        without, after = refine(joined(net, layer, pair, samples))
        if judge.does_without(after, loss):
            yield without, after
    rested, n_faint = without_faint(net, samples, directions, judge)
    if n_faint:
        again, after = refine(rested)
        if after < loss / _PROGRESS:
            yield again, after
    if not is_wrong:
        return
    costs = [(cost, layer, i) for layer in layers for i, cost in enumerate(removals(net, layer, samples))]
    for number, (_, layer, neuron) in enumerate(sorted(costs)[:_TRIED]):
        if net.widths[layer] > 1:
            without, after = refine(removal(net, layer, neuron, samples))
            if judge.does_without(after, loss):
                yield without, after
        if number == 0:  # a network that lacks nothing is exact after these: further trials would be in vain
            more, after = refine(net, careful=True)
            if after < loss / _PROGRESS:
                yield more, after


@in_full_precision
def most_wanted(net: Network, samples: Samples, held: Sequence[Vectors]) -> Missing:
    """The candidate that explains most of what the network leaves, of those for any hidden layer."""
    samples = samples.take(jnp.arange(min(len(samples.x), _ROWS)))
    states = hidden_states(net, samples.x)
    left = np.asarray(-samples.errors(net), float)
    fan_out = left.shape[1]
    itself = np.broadcast_to(np.eye(fan_out)[:, None], (fan_out, len(left), fan_out))
    by_z = [*(np.asarray(one, float) for one in sensitivities(net, states)[1:]), itself]
    inputs = [samples.x, *(state.h for state in states)]
    best = Missing(0.0, 0, np.zeros(0), np.zeros(0), np.zeros(0))
    for layer, vectors in enumerate(held):
        candidates = responses(Neurons(vectors, net.hidden[layer].activation), inputs[layer])
        present = np.column_stack([inputs[layer + 1], np.ones(len(left))])
        instead = np.linalg.lstsq(present, candidates, rcond=None)[0]
        share, outgoing = explained(candidates - present @ instead, by_z[layer], left)
        first = int(np.argmax(share))
        if share[first] > best.share:
            best = Missing(float(share[first]), layer, vectors[first], outgoing[first], instead[:, first])
    return best


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
