"""Which activation, how many hidden layers: short runs of a few students of each kind, told apart by what they reach.

Students of the teacher's own kind reach rounding errors within some hundred second-order steps; those of another kind,
however wide, stay above by orders of magnitude (3-3-1 tanh: 4e-32, then erf 3e-8, softplus 1e-8, relu 4e-4). Among
errors in the answers all kinds reach the errors, and what decides is how few neurons that takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from ..base.deadline import NEVER, Deadline
from ..base.progress import Progress, silent
from ..base.threads import one_blas_thread
from ..expand import Road, Student, over_students
from ..judge import Judge
from ..network import Activation, LayerActivation, Network, as_activations, n_parameters, random_students
from ..objective import Samples
from .settings import RecoveryConfig

Kind = tuple[LayerActivation, ...]  # the activation of each hidden layer

# One of each class of the same functions, more plausible ones first; the others of its class, which are it with other
# weights: sigmoid(z) = (1 + tanh(z / 2)) / 2, normal_cdf(z) = (1 + erf(z / sqrt 2)) / 2, cos(z) = sin(z + pi / 2).
CLASSES: dict[str, tuple[str, ...]] = {
    "tanh": ("sigmoid",),
    "relu": (),
    "gelu": (),
    "softplus": (),
    "silu": (),
    "g": (),
    "erf": ("normal_cdf",),
    "mish": (),
    "sin": ("cos",),
    "arctan": (),
    "gelu_tanh": (),
    "gaussian": (),
    "leaky_relu": (),
    "elu": (),
    "selu": (),
    "abs": (),
}
# Those which are each other and a linear map: a network of one of them is one of another with a linear part.
PIECEWISE_LINEAR = ("relu", "leaky_relu", "abs")
N_TRIED = 3  # students of each kind
_STEPS = 60  # of each; right kinds were 1e7 below all others by then
DEPTHS = (1, 2, 3)
# Loss by which a kind is better beyond doubt: a factor 30 in amplitude. Right kinds were better by 1e7 and more.
_BETTER = 1e3
# Loss within which kinds are not told apart by short runs, and are followed to their ends.
_TIED = 10.0
_N_TIED = 4


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


def _stands_out(trials: list[Trial], judge: Judge) -> bool:
    """Whether the best is of the right kind but for a doubt."""
    return len(trials) > 1 and not judge.is_suspicious(trials[0].loss) and trials[0].loss * _BETTER < trials[1].loss


def _by_loss(one: Trial) -> float:
    return float(np.nan_to_num(one.loss, nan=np.inf))


def tell_apart(
    samples: Samples,
    kinds: Sequence[str] | tuple[LayerActivation, ...],
    depths: Sequence[int],
    config: RecoveryConfig,
    judge: Judge,
    *,
    key: PRNGKeyArray,
    thorough: bool = False,
    progress: Progress = silent,
    deadline: Deadline = NEVER,
) -> list[Trial]:
    """Short runs of every kind, best first; no more of them once one is exact, or as good as no other kind can be.

    Deeper students come after shallower ones that are not: of several depths that imitate alike the least counts.

    Args:
        samples: Queries and targets, scaled.
        kinds: Names of activations; or the activations themselves, if only the depth is looked for.
        depths: Numbers of hidden layers, least first.
        config: How students are trained, and how wide they are.
        judge: What counts as exact.
        key: Used up.
        thorough: Go on until one is exact.
        progress: Called after each kind.
        deadline: After which no kind is tried but the first.
    """
    tried: list[list[Trial]] = []
    names: list[str] = [each for each in kinds if isinstance(each, str)]
    for depth in depths:
        if tried and deadline.leaves_out("more hidden layers"):
            break
        todo = [as_activations(name, depth) for name in names] or [as_activations(kinds[0], depth)]
        here: list[Trial] = []
        for number, kind in enumerate(todo):
            if here and deadline.leaves_out("other kinds of networks"):
                break
            here.append(trial(samples, kind, todo, config, jr.fold_in(key, depth)))
            progress("kinds", number + 1, len(todo), losses=[here[-1].loss])
            here.sort(key=_by_loss)
            if judge.fits(here[0].loss) or (not thorough and _stands_out(here, judge)):
                break
        tried.append(here)
        if not judge.is_suspicious(here[0].loss):
            break
        names = [one.activations[0].name for one in here[:_N_TIED]]  # deeper ones are dear: of the likely kinds only
    least = min(here[0].loss for here in tried)
    return next(here for here in tried if here[0].loss <= _BETTER * least)


def tied(
    trials: list[Trial],
    samples: Samples,
    config: RecoveryConfig,
    judge: Judge,
    *,
    key: PRNGKeyArray,
    progress: Progress = silent,
    deadline: Deadline = NEVER,
) -> list[Trial]:
    """Those that short runs do not tell apart, best first.

    Wide students of many kinds come down to the errors in the answers. If too many do to follow all of them, narrower
    students are tried, as long as some kind explains as much with them, but for chance.

    Args:
        trials: See `tell_apart`, best first.
        samples: Queries and targets, scaled.
        config: See `tell_apart`.
        judge: What counts as exact.
        key: Used up.
        progress: Called after each kind.
        deadline: After which no kind is tried.
    """
    same = [one for one in trials if one.loss <= _TIED * trials[0].loss]
    depth, best = len(trials[0].activations), trials[0].loss
    widths = config.widths(depth)
    shape = lambda widths: (samples.x.shape[1], *widths, samples.y.shape[1])
    while len(same) > _N_TIED and max(widths) > 1:
        narrow = tuple(max(1, width // 2) for width in widths)
        narrower, kinds = replace(config, student_width=narrow), [one.activations for one in same]
        fewer = n_parameters(shape(widths)) - n_parameters(shape(narrow))
        runs = []
        for number, kind in enumerate(kinds):
            if deadline.leaves_out("narrower students of each kind"):
                return same[:_N_TIED]
            runs.append(trial(samples, kind, kinds, narrower, jr.fold_in(key, max(narrow))))
            progress("kinds", number + 1, len(kinds), losses=[runs[-1].loss])
        still = sorted((one for one in runs if judge.gain(best, one.loss) <= judge.chance(fewer)), key=_by_loss)
        if not still:
            return sorted(runs, key=_by_loss)[:_N_TIED]
        same, widths, best = still, narrow, still[0].loss
    return same[:_N_TIED]


def likelier(
    samples: Samples,
    activations: tuple[LayerActivation, ...],
    loss: float,
    config: RecoveryConfig,
    judge: Judge,
    *,
    key: PRNGKeyArray,
    progress: Progress = silent,
    deadline: Deadline = NEVER,
) -> Trial | None:
    """Another kind that imitates better by orders of magnitude, if there is one: the first that is found.

    Args:
        samples: Queries and targets, scaled.
        activations: As they were named.
        loss: Lowest of their students'.
        config: See `tell_apart`.
        judge: What counts as exact.
        key: Used up.
        progress: Called after each kind.
        deadline: After which no kind is tried.
    """
    depth, named = len(activations), {one.name for one in activations}
    others = [as_activations(name, depth) for name in CLASSES if named.isdisjoint({name, *CLASSES[name]})]
    deeper = [as_activations(activations[0], depth + 1)] if depth < DEPTHS[-1] else []
    todo = [*others[:1], *deeper, *others[1:]]
    for number, kind in enumerate(todo):
        if deadline.leaves_out("likelier kinds of networks"):
            break
        tried = trial(samples, kind, todo, config, jr.fold_in(key, number))
        progress("kinds", number + 1, len(todo), losses=[tried.loss])
        if tried.loss * _BETTER < loss or judge.fits(tried.loss):
            return tried
    return None


def same_functions(name: str) -> str:
    """What else it may be called, in words; empty if nothing."""
    others = next((each for one, each in CLASSES.items() if name == one), ())
    return f" ({' and '.join(others)} is the same with other weights)" if others else ""
