"""Narrower and narrower students: neurons that a student can best do without are taken away, and it is trained again.

A wide student finds strong neurons first. Of the weak ones, those that are nearly linear over the queries above all, it
makes mixtures spread over many neurons of its own, and is content. With fewer neurons to spend, each has to become one
of the teacher's. The price is small, since narrow students are trained in less time.

Which neuron is the cheapest is decided by least squares: the outgoing weights of all others make good for it as far as
they can, so that copies, zero groups and constants go at no cost.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ..network.networks import Layer, Network, stack, student
from ..objective.imitation import Inputs


@dataclass(frozen=True, kw_only=True)
class ShrinkConfig:
    """How trained students become narrower.

    Attributes:
        factor: Share of the width that is left by each shrinking, rounded up; 1 leaves students as wide as they are.
        room: How many times the lowest loss that any student had before, the best one may have after a shrinking and
            its training. Beyond, the students have become too narrow, and those before count.
        learning_rate: Of the first epoch after a shrinking, as a share of that of the very first.
    """

    factor: float = 1.0
    room: float = 4.0
    learning_rate: float = 0.3

    def __post_init__(self):
        if not 0 < self.factor <= 1:
            raise ValueError(f"`factor` is the share of the width that is left, within (0, 1]; got {self.factor:g}.")
        if not self.room >= 1:
            raise ValueError(f"`room` is at least 1, no rise of the loss at all; got {self.room:g}.")
        if not 0 < self.learning_rate <= 1:
            raise ValueError(
                f"`learning_rate` is a share of the first learning rate, within (0, 1]; got {self.learning_rate:g}."
            )


def narrower(widths: tuple[int, ...], factor: float) -> Iterator[tuple[int, ...]]:
    """The widths after each shrinking, as long as a layer becomes narrower."""
    while True:
        before, widths = widths, tuple(int(np.ceil(factor * width)) for width in widths)
        if widths == before:
            return
        yield widths


def shrunk(students: Network, x: Inputs, widths: tuple[int, ...]) -> Network:
    """The students with the neurons that matter most to the next layer, so many in each hidden layer.

    What the next layer listened to is fitted anew from the neurons that are left. Students that diverged come back in
    the new shape, and are not finite.

    Args:
        students: A stack.
        x: Queries.
        widths: Of the hidden layers, none wider than now.
    """
    n_students = len(students.layers[0].w)
    return stack([_shrunk(student(students, i), x, widths) for i in range(n_students)])


def _shrunk(net: Network, x: Inputs, widths: tuple[int, ...]) -> Network:
    layers, h = list(net.layers), x
    for number, width in enumerate(widths):
        hidden, following = layers[number : number + 2]
        phi = net.activation(hidden(h))
        kept, w, b = _fitted(np.asarray(phi, float), np.asarray(following.w, float), width)
        cast = lambda array, like: jnp.asarray(array, like.dtype)
        layers[number] = Layer(hidden.w[kept], hidden.b[kept])
        layers[number + 1] = Layer(cast(w, following.w), following.b + cast(b, following.b))
        h = phi[:, kept]
    return Network(tuple(layers), net.activation)


def _fitted(
    phi: Float[np.ndarray, "samples width"], a: Float[np.ndarray, "fan_out width"], n_kept: int
) -> tuple[Int[np.ndarray, " kept"], Float[np.ndarray, "fan_out kept"], Float[np.ndarray, " fan_out"]]:
    """The neurons to keep of a layer, taken away one by one at the least cost, their outgoing weights, and a constant.

    With G the moments of the responses and c those with the wanted sums a phi, the fit is a = G^-1 c, and leaving out
    neuron i costs |a_i|^2 / (G^-1)_ii.
    """
    mean, deviation = phi.mean(axis=0), phi.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1)
    g = np.cov(phi / scale, rowvar=False, bias=True).reshape(len(scale), len(scale))
    c = g @ (a * scale).T
    kept = np.arange(len(scale))
    if not np.isfinite(g).all():
        return kept[:n_kept], a[:, :n_kept], np.full(len(a), np.nan)
    while True:
        # Copies make G singular: the ridge is far below what a neuron of any use contributes.
        inverse = np.linalg.inv(g[np.ix_(kept, kept)] + 1e-12 * np.eye(len(kept)))
        fit = inverse @ c[kept]
        if len(kept) == n_kept:
            break
        kept = np.delete(kept, np.argmin(np.sum(fit**2, axis=1) / np.diag(inverse)))
    w = (fit / scale[kept, None]).T
    return kept, w, a @ mean - w @ mean[kept]
