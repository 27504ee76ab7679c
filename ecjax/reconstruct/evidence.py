"""Widths among errors: networks with one neuron less and one more, refined likewise, and what they leave.

Without errors an exact network needs no evidence: none of a smaller width comes near rounding. With errors every width
leaves something, and what decides is whether a neuron takes away more than chance does.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ..base.precision import in_full_precision
from ..expand import Expansion, Stopping
from ..judge import Judge
from ..judge.evidence import Evidence
from ..network import Mixture, Network, hidden_states
from ..network import student as student_of
from ..network.moves import grow
from ..objective import Samples
from .eliminate import removal, removals
from .finetune import finetune

_TRIES = 2  # of the cheapest neurons, one of which goes
_DRAWS, _STARTS = 64, 3  # neurons that are drawn at random, and the best of them, which are refined
# Deviation of the pre-activations of neurons that are drawn, over standardised inputs: from nearly linear to a step.
_SPREAD = (0.3, 3.0)
# Students that see the same floor agree so well in their losses: one that was fitted to ten numbers for each of its
# parameters is a tenth above it, and misses by a quarter once in a million.
_SAME_FLOOR = 1.25
_SETTLING = 4  # changes of width by evidence, after refinement has judged already
NEW = -1  # the place that a neuron had which was drawn here


class SharedFloor(NamedTuple):
    """What students of one width agree that nothing explains."""

    loss: float  # of the best of them, refined on all samples
    n_parameters: int  # of that one
    noise: float | None  # mean square, corrected for what so many parameters explain; None if it can't be noise


class Weighed(NamedTuple):
    """A network whose width was held against its neighbours."""

    network: Network
    loss: float
    evidence: Evidence
    origin: tuple[int, ...]  # of each neuron of the layer, its place in the given network; NEW for one that was drawn


def shared_floor(
    expansion: Expansion, samples: Samples, needed: int, *, stop: Stopping, judge: Judge
) -> SharedFloor | None:
    """The errors in the answers, if students agree that there are some.

    Independent students that stop for reasons of their own end at losses that differ by orders of magnitude; errors in
    the answers stop all of them at one. The best of them is refined on all answers, and tells.

    Args:
        expansion: Students of one width.
        samples: Queries and targets.
        needed: How many students have to agree.
        stop: When a refinement stops.
        judge: What counts as exact.

    Returns:
        None if students do not agree, or have too many parameters to tell.
    """
    losses = np.sort(expansion.ranked_loss)[:needed]
    one = student_of(expansion.students, int(np.argmin(expansion.ranked_loss)))
    if not judge.explains(one.n_parameters) or not losses[-1] <= _SAME_FLOOR * losses[0]:
        return None
    _, loss = finetune(one, samples, stop=stop, judge=judge, pad_to=one.widths[0])
    noise = loss * judge.n_numbers / (judge.n_numbers - one.n_parameters)
    return SharedFloor(loss, one.n_parameters, noise if judge.may_see_noise and judge.may_be_noise(noise) else None)


def weigh(
    net: Network,
    samples: Samples,
    *,
    layer: int = 0,
    stop: Stopping,
    judge: Judge,
    pad_to: int = 0,
    student: SharedFloor | None = None,
) -> Weighed:
    """Hold a width against its neighbours, and move to the one that the answers prefer.

    Args:
        net: A refined network.
        samples: Queries and targets.
        layer: Which hidden layer.
        stop: When a refinement stops.
        judge: With the errors of the answers.
        pad_to: See `finetune`.
        student: What a wide student leaves on the same samples.
    """
    refine = lambda net: finetune(net, samples, stop=stop, judge=judge, pad_to=pad_to)
    by_loss = lambda refined: refined[1]
    net, loss = refine(net)
    origin = tuple(range(net.widths[layer]))
    for turn in range(_SETTLING + 1):
        chance = judge.chance(net.shape[layer] + 1 + net.shape[layer + 2])
        gone = _cheapest(net, layer, samples)
        tried = [(*refine(removal(net, layer, i, samples)), i) for i in gone]
        nothing = (net, float(np.mean(np.var(np.asarray(samples.y, float), axis=0))), 0)  # of no neurons at all
        smaller, smaller_loss, without = min(tried, key=by_loss, default=nothing)
        larger, larger_loss = min(map(refine, _wider(net, layer, samples, seed=turn)), key=by_loss)
        beyond = None
        if student is not None:
            n_more = max(0, student.n_parameters - net.n_parameters)
            beyond = judge.gain(student.loss, loss) - judge.chance(n_more)
        evidence = Evidence(
            layer=layer + 1,
            width=net.widths[layer],
            fewer=judge.gain(loss, smaller_loss),
            more=judge.gain(larger_loss, loss),
            chance=chance,
            student=beyond,
        )
        settled = evidence.more <= chance and (evidence.fewer_refuted or not gone)
        if turn == _SETTLING or settled:
            break
        if evidence.more > chance:
            net, loss, origin = larger, larger_loss, (*origin, NEW)
        else:
            net, loss, origin = smaller, smaller_loss, (*origin[:without], *origin[without + 1 :])
    return Weighed(net, loss, evidence, origin)


def _cheapest(net: Network, layer: int, samples: Samples) -> list[int]:
    """The neurons that the next layer can best do without; none, if there is one only."""
    if net.widths[layer] == 1:
        return []
    return np.argsort(removals(net, layer, samples), kind="stable")[:_TRIES].tolist()


@in_full_precision
def _wider(net: Network, layer: int, samples: Samples, *, seed: int) -> list[Network]:
    """With one neuron more: of many that are drawn, those that explain most of what is left."""
    rng = np.random.default_rng(seed)
    below = np.asarray(hidden_states(net, samples.x)[layer - 1].h if layer else samples.x, float)
    mean, spread = below.mean(axis=0), below.std(axis=0)
    w = rng.standard_normal((_DRAWS, len(spread))) / np.where(spread > 0, spread, np.inf) / np.sqrt(len(spread))
    w *= np.exp(rng.uniform(np.log(_SPREAD[0]), np.log(_SPREAD[1]), _DRAWS))[:, None]
    b = rng.standard_normal(_DRAWS) * np.sqrt(np.sum((w * spread) ** 2, axis=1)) - w @ mean
    left = np.asarray(-samples.errors(net), float)
    kind = net.layers[layer].activation
    one = kind.each[-1] if isinstance(kind, Mixture) else kind  # as in `grow`
    h = np.asarray(one(jnp.asarray(below @ w.T + b, net.dtype)), float)
    h = h - h.mean(axis=0)
    norm = np.sum(h**2, axis=0)
    a = (left.T @ h) / np.where(norm > 0, norm, np.inf)  # fan_out, draws
    explained = np.sum(a**2, axis=0) * norm
    best = np.argsort(-explained, kind="stable")[:_STARTS]
    last = layer == len(net.widths) - 1
    out = [a[:, i] if last else np.zeros(net.shape[layer + 2]) for i in best]
    return [
        grow(net, jnp.asarray(w[i]), float(b[i]), jnp.asarray(o), layer=layer) for i, o in zip(best, out, strict=True)
    ]
