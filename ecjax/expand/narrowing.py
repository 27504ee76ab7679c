"""Narrower and narrower students: neurons that a student can best do without are taken away, and it is trained again.

A wide student finds strong neurons first. Of the weak ones, those that are nearly linear over the queries above all, it
makes mixtures spread over many neurons of its own, and is content. With fewer neurons to spend, each has to become one
of the teacher's. The price is small, since narrow students are trained in less time.

Which neuron is the cheapest is decided by least squares: the outgoing weights of all others make good for it as far as
they can, so that copies, zero groups and constants go at no cost.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from ..base.checks import check_settings
from ..base.deadline import NEVER, Deadline
from ..base.precision import in_full_precision
from ..base.progress import Progress, silent
from ..network import Layer, Mixture, Network, hidden_states, stack, student
from ..network.moves import with_layers
from ..objective import Inputs, Objective
from ..objective.columns import cost_of_leaving_out
from .expansion import Expansion
from .minibatch import Minibatch, checked_samples
from .stage import StackStage
from .store import EPOCHS, Store


@dataclass(frozen=True, kw_only=True)
class Narrowing:
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
        check_settings(self)
        if not 0 < self.factor <= 1:
            raise ValueError(f"`factor` is the share of the width that is left, within (0, 1]; got {self.factor:g}.")
        if not self.room >= 1:
            raise ValueError(f"`room` is at least 1, no rise of the loss at all; got {self.room:g}.")
        if not 0 < self.learning_rate <= 1:
            raise ValueError(
                f"`learning_rate` is a share of the first learning rate, within (0, 1]; got {self.learning_rate:g}."
            )


@dataclass(frozen=True)
class NarrowedMinibatch(StackStage):
    """Training on mini-batches, and again of narrower students, as long as these imitate as well."""

    minibatch: Minibatch
    narrowing: Narrowing

    def __post_init__(self):
        later = self.narrowing.learning_rate * self.minibatch.learning_rate
        if self.narrowing.factor < 1 and later < self.minibatch.min_learning_rate:
            raise ValueError(
                "`narrowing.learning_rate`, a share of `minibatch.learning_rate`, leaves at least "
                f"`minibatch.min_learning_rate`; got {later:g} and {self.minibatch.min_learning_rate:g}."
            )

    def __call__(
        self,
        students: Network,
        objective: Objective,
        *,
        key: PRNGKeyArray | None,
        store: Store,
        progress: Progress = silent,
        deadline: Deadline = NEVER,
    ) -> Expansion:
        samples = checked_samples(objective)
        if self.narrowing.factor < 1 and any(isinstance(one, Mixture) for one in students.activations):
            raise ValueError(
                "`narrowing` is off (factor 1) for students with a Mixture, of which each would keep neurons of other "
                f"kinds, so that they were no stack any more; got factor {self.narrowing.factor:g}."
            )
        first, told = self.minibatch.for_queries(samples.x), {"progress": progress, "deadline": deadline}
        trained = first.resumed(students, samples, key=key, store=store, name=EPOCHS, **told)
        lowest, history, n_steps = trained.lowest_loss, [np.asarray(trained.history)], trained.n_steps
        for number, widths in enumerate(narrower(students.widths, self.narrowing.factor), start=1):
            if deadline.leaves_out(f"students narrower than {max(trained.students.widths)}"):
                break
            later = replace(first, learning_rate=self.narrowing.learning_rate * first.learning_rate)
            # Epochs use up fold_in(key, 0), fold_in(key, 1), ...: shrinkings come from the other end.
            assert key is not None  # or the first training would have refused
            key_of_round, name = jr.fold_in(key, 2**32 - number), f"{EPOCHS}-{number}"
            fewer = shrunk(trained.students, samples.x, widths)
            after = later.resumed(fewer, samples, key=key_of_round, store=store, name=name, **told)
            if not after.lowest_loss <= self.narrowing.room * lowest:
                break
            trained, lowest = after, min(lowest, after.lowest_loss)
            history.append(np.asarray(after.history))
            n_steps = n_steps + after.n_steps
        return replace(trained, history=np.concatenate(history), n_steps=n_steps)


def narrower(widths: tuple[int, ...], factor: float) -> Iterator[tuple[int, ...]]:
    """The widths after each shrinking, as long as a layer becomes narrower."""
    while True:
        before, widths = widths, tuple(int(np.ceil(factor * width)) for width in widths)
        if widths == before:
            return
        yield widths


@in_full_precision
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
    for number, width in enumerate(widths):
        phi = hidden_states(net, x)[number].h
        hidden, following = net.layers[number : number + 2]
        kept, w, b = _fitted(np.asarray(phi, float), np.asarray(following.w, float), width)
        cast = lambda array, like: jnp.asarray(array, like.dtype)
        narrow = Layer(hidden.w[kept], hidden.b[kept], hidden.activation.take(kept))
        after = replace(following, w=cast(w, following.w), b=following.b + cast(b, following.b))
        net = with_layers(net, number, narrow, after)
    return net


def _fitted(
    phi: Float[np.ndarray, "samples width"], a: Float[np.ndarray, "fan_out width"], n_kept: int
) -> tuple[Int[np.ndarray, " kept"], Float[np.ndarray, "fan_out kept"], Float[np.ndarray, " fan_out"]]:
    """The neurons to keep of a layer, taken away one by one at the least cost, their outgoing weights, and a constant.

    With G the moments of the responses and c those with the wanted sums a phi, the fit is a = G^-1 c.
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
        kept = np.delete(kept, np.argmin(cost_of_leaving_out(fit.T, np.diag(inverse))))
    w = (fit / scale[kept, None]).T
    return kept, w, a @ mean - w @ mean[kept]
