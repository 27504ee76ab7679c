"""Which activation, how many hidden layers: short runs of a few students of each kind, told apart by what they reach.

Students of the teacher's own kind reach rounding errors within some hundred second-order steps; those of another kind,
however wide, stay above by orders of magnitude (3-3-1 tanh: 4e-32, then erf 3e-8, softplus 1e-8, relu 4e-4). Among
errors in the answers all kinds reach the errors, and what decides is how few neurons that takes.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count, repeat

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..base.deadline import NEVER, Deadline
from ..base.progress import Progress, silent
from ..judge import Judge
from ..network import LayerActivation, as_activations, n_parameters
from ..objective import Samples
from .settings import RecoveryConfig
from .trials import Trial, short_runs

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
DEPTHS = (1, 2, 3)
# Loss by which a kind is better beyond doubt: a factor 30 in amplitude. Right kinds were better by 1e7 and more.
_BETTER = 1e3
# Loss within which kinds are not told apart by short runs, and are followed to their ends.
_TIED = 10.0
_N_TIED = 4


def stands_out(trials: list[Trial], judge: Judge) -> bool:
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
        key: Not to be used again.
        thorough: Go on until one is exact.
        progress: Called after each kind.
        deadline: After which no kind is tried but the first.
    """
    by_depth: list[list[Trial]] = []
    names: list[str] = [each for each in kinds if isinstance(each, str)]
    for depth in depths:
        if by_depth and deadline.leaves_out("more hidden layers"):
            break
        todo = [as_activations(name, depth) for name in names] or [as_activations(kinds[0], depth)]
        here: list[Trial] = []
        late = lambda here=here: bool(here) and deadline.leaves_out("other kinds of networks")
        for tried in short_runs(samples, todo, config, repeat(jr.fold_in(key, depth)), progress, late):
            here.append(tried)
            here.sort(key=_by_loss)
            if judge.fits(here[0].loss) or (not thorough and stands_out(here, judge)):
                break
        by_depth.append(here)
        if not judge.is_suspicious(here[0].loss):
            break
        names = [one.activations[0].name for one in here[:_N_TIED]]  # deeper ones are dear: of the likely kinds only
    least = min(here[0].loss for here in by_depth)
    return next(here for here in by_depth if here[0].loss <= _BETTER * least)


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
        key: Not to be used again.
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
        late = lambda: deadline.leaves_out("narrower students of each kind")
        runs = list(short_runs(samples, kinds, narrower, repeat(jr.fold_in(key, max(narrow))), progress, late))
        if len(runs) < len(kinds):
            break
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
        key: Not to be used again.
        progress: Called after each kind.
        deadline: After which no kind is tried.
    """
    depth, named = len(activations), {one.name for one in activations}
    others = [as_activations(name, depth) for name in CLASSES if named.isdisjoint({name, *CLASSES[name]})]
    deeper = [as_activations(activations[0], depth + 1)] if depth < DEPTHS[-1] else []
    todo = [*others[:1], *deeper, *others[1:]]
    config = replace(config, student_width=max(config.widths(depth)))  # one for all depths
    keys, late = map(partial(jr.fold_in, key), count()), lambda: deadline.leaves_out("likelier kinds of networks")
    for tried in short_runs(samples, todo, config, keys, progress, late):
        if tried.loss * _BETTER < loss or judge.fits(tried.loss):
            return tried
    return None


def same_functions(name: str) -> str:
    """What else it may be called, in words; empty if nothing."""
    others = next((each for one, each in CLASSES.items() if name == one), ())
    return f" ({' and '.join(others)} is the same with other weights)" if others else ""
