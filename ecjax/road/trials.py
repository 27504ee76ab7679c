"""Short runs of a few students of one kind of network: one compiled program trains all kinds, each by its number.

Compiling a program for each activation would take most of the time of a search (2 to 5 s each, a run a tenth of one).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from ..base.progress import Progress
from ..base.threads import one_blas_thread
from ..expand import Road, Student, over_students
from ..network import Activation, LayerActivation, Network, random_students
from ..objective import Samples
from .settings import RecoveryConfig

Kind = tuple[LayerActivation, ...]  # the activation of each hidden layer

N_TRIED = 3  # students of each kind
_STEPS = 60  # of each; right kinds were 1e7 below all others by then


@dataclass(frozen=True)
class Trial:
    """What short runs of one kind reached."""

    activations: Kind
    loss: float

    @property
    def name(self) -> str:
        """As "tanh" or "tanh, two hidden layers"."""
        kinds = " and ".join(dict.fromkeys(one.name for one in self.activations))
        depth = len(self.activations)
        return kinds if depth == 1 else f"{kinds}, {depth} hidden layers"


def trial(samples: Samples, kind: Kind, among: Sequence[Kind], config: RecoveryConfig, key: PRNGKeyArray) -> Trial:
    """What a few students of a kind reach in a short run.

    Args:
        samples: Queries and targets, scaled.
        kind: Activations of the hidden layers.
        among: All kinds that are tried: those that are trained alike share one compiled program.
        config: How students are trained, and how wide they are.
        key: Of their weights.
    """
    alike = tuple(each for each in among if each == kind or _are_trained_alike(each, kind))
    shape = (samples.x.shape[1], *config.widths(len(kind)), samples.y.shape[1])
    students = random_students(N_TRIED, shape, alike[0], key=key, dtype=samples.x.dtype)  # by number: their own
    quick = config.training(0)
    short = replace(quick, descent=replace(quick.descent, max_steps=min(_STEPS, quick.descent.max_steps)))
    _, stages = short.chosen(students)
    run = _OfKind(Road(stages), alike)  # pyright: ignore[reportArgumentType]
    numbered = (students, jnp.full(N_TRIED, alike.index(kind)))
    with one_blas_thread():
        done = over_students(run, numbered, samples, placement=short.placement, chunk=short.chunk)
    return Trial(kind, float(np.nanmin(np.asarray(done.loss))))


def short_runs(
    samples: Samples,
    kinds: Sequence[Kind],
    config: RecoveryConfig,
    keys: Iterable[PRNGKeyArray],
    progress: Progress,
    leaves_out: Callable[[], bool],
) -> Iterator[Trial]:
    """A trial of one kind after the other.

    Args:
        samples: Queries and targets, scaled.
        kinds: Which.
        config: See `trial`.
        keys: Of each.
        progress: Called after each.
        leaves_out: Asked before each: whether the time is up, so that there are no more.
    """
    for number, (kind, key) in enumerate(zip(kinds, keys, strict=False), start=1):
        if leaves_out():
            return
        tried = trial(samples, kind, kinds, config, key)
        progress("kinds", number, len(kinds), losses=[tried.loss])
        yield tried


def _are_trained_alike(one: Kind, other: Kind) -> bool:
    plain = all(isinstance(each, Activation) for each in (*one, *other))
    return plain and len(one) == len(other) and all(a.smooth == b.smooth for a, b in zip(one, other, strict=True))


@dataclass(frozen=True)
class _OfKind:
    """A road for students that carry the number of their kind, so that one program trains all kinds."""

    road: Road
    kinds: tuple[Kind, ...]

    def __call__(self, numbered: tuple[Network, Int[Array, ""]], samples: Samples) -> Student:
        student, number = numbered
        activations = [_numbered(each, number) for each in zip(*self.kinds, strict=True)]
        hidden = (replace(layer, activation=one) for layer, one in zip(student.hidden, activations, strict=True))
        done = self.road(Network((*hidden, student.output)), samples)
        network = jax.tree.unflatten(jax.tree.structure(student), jax.tree.leaves(done.network))
        return eqx.tree_at(lambda done: done.network, done, network)


def _numbered(activations: Sequence[Any], number: Int[Array, ""]) -> LayerActivation:
    """One of several activations, by a number that is known when the program runs."""
    if len(activations) == 1:
        return activations[0]
    one_of = lambda name: lambda z: jax.lax.switch(number, [getattr(each, name) for each in activations], z)
    return Activation(one_of("fn"), d1=one_of("d1"), d2=one_of("d2"), smooth=activations[0].smooth)
