"""Which activation, how many hidden layers: short runs of a few students of each kind, told apart by what they reach.

Students of the teacher's own kind reach rounding errors within some hundred second-order steps; those of another kind,
however wide, stay above by orders of magnitude (3-3-1 tanh: 4e-32, then erf 3e-8, softplus 1e-8, relu 4e-4). Among
errors in the answers all kinds reach the errors, and what decides is how few neurons that takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..base.progress import Progress, silent
from ..expand import expand
from ..judge import Judge
from ..network import LayerActivation, as_activations, random_students
from ..objective import Samples
from .settings import RecoveryConfig

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
    "elu": (),
    "leaky_relu": (),
    "mish": (),
    "sin": ("cos",),
    "arctan": (),
    "selu": (),
    "gelu_tanh": (),
    "gaussian": (),
    "abs": (),
}
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

    activations: tuple[LayerActivation, ...]
    loss: float

    @property
    def name(self) -> str:
        """As "tanh" or "tanh, two hidden layers"."""
        kinds = " and ".join(dict.fromkeys(one.name for one in self.activations))
        depth = len(self.activations)
        return kinds if depth == 1 else f"{kinds}, {depth} hidden layers"


def trial(
    samples: Samples, activations: tuple[LayerActivation, ...], config: RecoveryConfig, key: PRNGKeyArray
) -> Trial:
    """What a few students of a kind reach in a short run.

    Args:
        samples: Queries and targets, scaled.
        activations: Of the hidden layers.
        config: How students are trained, and how wide they are.
        key: Of their weights.
    """
    shape = (samples.x.shape[1], *config.widths(len(activations)), samples.y.shape[1])
    students = random_students(N_TRIED, shape, activations, key=key, dtype=samples.x.dtype)
    quick = config.training(0)
    short = replace(quick, descent=replace(quick.descent, max_steps=min(_STEPS, quick.descent.max_steps)))
    done = expand(students, samples, config=short, key=key)
    return Trial(activations, done.lowest_loss)


def tell_apart(
    samples: Samples,
    kinds: Sequence[str] | tuple[LayerActivation, ...],
    depths: Sequence[int],
    config: RecoveryConfig,
    judge: Judge,
    *,
    key: PRNGKeyArray,
    progress: Progress = silent,
) -> list[Trial]:
    """Short runs of every kind, best first; no more of them once one is exact.

    Deeper students come after shallower ones, as long as these are better for it: of several depths that imitate the
    least counts.

    Args:
        samples: Queries and targets, scaled.
        kinds: Names of activations; or the activations themselves, if only the depth is looked for.
        depths: Numbers of hidden layers, least first.
        config: How students are trained, and how wide they are.
        judge: What counts as exact.
        key: Used up.
        progress: Called after each kind.
    """
    best: list[Trial] = []
    names: list[str] = [each for each in kinds if isinstance(each, str)]
    for depth in depths:
        todo = [as_activations(name, depth) for name in names] or [as_activations(kinds[0], depth)]
        here: list[Trial] = []
        for number, activations in enumerate(todo):
            here.append(trial(samples, activations, config, jr.fold_in(key, depth)))
            progress("kinds", number + 1, len(todo), losses=[here[-1].loss])
            if judge.fits(here[-1].loss):
                break
        here.sort(key=lambda one: np.nan_to_num(one.loss, nan=np.inf))
        if best and not here[0].loss * _BETTER < best[0].loss:
            return best
        best = here
        if judge.fits(best[0].loss):
            return best
        names = [one.activations[0].name for one in here[:_N_TIED]]  # deeper ones are dear: of the likely kinds only
    return best


def tied(trials: list[Trial]) -> list[Trial]:
    """Those that short runs do not tell apart, best first."""
    return [one for one in trials if one.loss <= _TIED * trials[0].loss][:_N_TIED]


def likelier(
    samples: Samples,
    activations: tuple[LayerActivation, ...],
    loss: float,
    config: RecoveryConfig,
    judge: Judge,
    *,
    key: PRNGKeyArray,
    progress: Progress = silent,
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
    """
    depth, named = len(activations), {one.name for one in activations}
    others = [as_activations(name, depth) for name in CLASSES if named.isdisjoint({name, *CLASSES[name]})]
    deeper = [as_activations(activations[0], depth + 1)] if depth < DEPTHS[-1] else []
    for number, kind in enumerate([*others[:1], *deeper, *others[1:]]):
        tried = trial(samples, kind, config, jr.fold_in(key, number))
        progress("kinds", number + 1, len(others) + len(deeper), losses=[tried.loss])
        if tried.loss * _BETTER < loss or judge.fits(tried.loss):
            return tried
    return None


def same_functions(name: str) -> str:
    """What else it may be called, in words; empty if nothing."""
    others = next((each for one, each in CLASSES.items() if name == one), ())
    return f" ({' and '.join(others)} is the same with other weights)" if others else ""
