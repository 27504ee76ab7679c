"""Recovery of a network whose activation or depth nobody named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..base.deadline import Deadline
from ..base.progress import Progress, Stopwatch
from ..data import Data
from ..network import Activation, Activations, as_activations, n_parameters, pre_activations
from .asking import AUTO
from .choice import Overrides, choice_of
from .following import ROWS, checked_activations, enough, judge_of
from .kinds import CLASSES, DEPTHS, PIECEWISE_LINEAR, Trial, same_functions, tell_apart, tied
from .recovery import Recovery
from .settings import RecoveryConfig

_OPPOSITE = 1e-2  # from -1, of the cosine of two neurons' pre-activations; leaky relu by relu: 6e-5


def of_unknown_kind(
    data: Data,
    activation: Activations,
    hidden_layers: int | str,
    config: RecoveryConfig | None,
    overrides: Overrides,
    key: PRNGKeyArray,
    go: Callable[..., Recovery],
    allow_few: bool,
    progress: Progress,
    deadline: Deadline,
) -> Recovery:
    """Kinds are told apart by short runs, then those that are not by what they end with."""
    depths = DEPTHS if hidden_layers == AUTO else (cast(int, hidden_layers),)
    kinds = tuple(CLASSES) if activation == AUTO else (cast(Any, activation),)
    if activation != AUTO and not isinstance(activation, str | Activation):
        raise ValueError('`hidden_layers` "auto" goes with one activation for all of them, by its name.')
    like = checked_activations(kinds[0], depths[-1])
    choice = choice_of(data, like, config, overrides)
    if choice.config.student_width == "auto":
        raise ValueError('`student_width` is "auto", and so is the kind of network: give one of them.')
    if choice.config.expand.trains_stacks:
        raise ValueError(f"{AUTO!r} is for students trained one by one; method {choice.config.expand.method!r} is not.")
    widths, seconds = choice.config.widths(depths[0]), Stopwatch()
    scale = data.suffices(widths, allow_few=allow_few).scaling(choice.config.standardise)
    samples = enough(data.scaled(scale), ROWS * n_parameters((data.x.shape[1], *widths, data.y.shape[1])))
    judge = judge_of(data, scale, choice.config)
    judge = replace(judge, n_numbers=judge.n_numbers * len(samples.x) // len(data.x))
    with seconds.of("kinds"):
        told = {"progress": progress, "deadline": deadline}
        trials = tell_apart(samples, kinds, depths, choice.config, judge, key=jr.fold_in(key, 2**27), **told)
        todo = tied(trials, samples, choice.config, judge, key=jr.fold_in(key, 2**26), **told)
    ends = []
    while todo:
        if ends and deadline.leaves_out("other kinds of networks"):
            break
        one = todo.pop(0)
        chosen = choice_of(data, one.activations, config, overrides)
        # Students of several kinds have no place in one store.
        recovery = go(one.activations, chosen, key, store=None, kinds_known=True)
        ends.append((_score(recovery), one, recovery))
        if not recovery.is_exact or recovery.judge.is_noisy:
            continue
        if not _linear_part(recovery, data):
            break
        tried = [other.name for _, other, _ in ends]
        todo = [Trial(as_activations(name, len(recovery.widths)), one.loss)
                for name in PIECEWISE_LINEAR if name in kinds and name not in tried]  # fmt: skip
    ends.sort(key=lambda end: (not end[2].is_exact, end[0]))
    score, best, recovery = ends[0]
    rivals = [one.name for other, one, end in ends[1:] if end.is_exact and other - score <= judge.chance(1)]
    others = [one for one in trials if one is not best]
    beside = f"; {others[0].name} reaches {others[0].loss:.0e}" if others else ""
    words = f"{best.name}{same_functions(best.activations[0].name)}, by short runs (loss {best.loss:.0e}{beside})"
    undecided = (f"the activation: {' and '.join(rivals)} explain as much.",) if rivals else ()
    return replace(
        recovery,
        chosen=(words, *recovery.chosen),
        unidentified=(*recovery.unidentified, *undecided),
        seconds={**seconds.seconds, **recovery.seconds},
    )


def _score(recovery: Recovery) -> float:
    """By how much the evidence is against it, its linear map counted like its neurons."""
    beside = 0 if recovery.linear is None else recovery.linear.w.size
    return recovery.judge.score(recovery.loss, recovery.network.n_parameters + beside)


def _linear_part(recovery: Recovery, data: Data) -> bool:
    """Whether a piecewise linear answer has a linear part, which another piecewise linear kind may not need.

    That is a map that is kept beside the neurons, a neuron whose kink no query crosses, or two neurons of opposite
    incoming weight vectors, as far as the queries between their kinks tell.
    """
    if recovery.network.activations[0].name not in PIECEWISE_LINEAR:
        return False
    z = np.asarray(pre_activations(recovery.network.layers[0], data.x), float)
    unbent = (z >= 0).all(axis=0) | (z <= 0).all(axis=0)
    unit = z / np.linalg.norm(z, axis=0)
    return recovery.linear is not None or bool(unbent.any() or (unit.T @ unit < -1 + _OPPOSITE).any())
