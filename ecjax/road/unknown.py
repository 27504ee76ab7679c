"""Recovery of a network whose activation or depth nobody named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import jax.random as jr
from jaxtyping import PRNGKeyArray

from ..base.progress import Progress, Stopwatch
from ..data import Data
from ..network import Activation, Activations
from .asking import AUTO
from .choice import Overrides, choice_of
from .following import checked_activations, judge_of
from .kinds import CLASSES, DEPTHS, same_functions, tell_apart, tied
from .recovery import Recovery
from .settings import RecoveryConfig


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
    scale = data.suffices(choice.config.widths(depths[0]), allow_few=allow_few).scaling(choice.config.standardise)
    judge, seconds = judge_of(data, scale, choice.config), Stopwatch()
    samples = data.scaled(scale)
    with seconds.of("kinds"):
        trials = tell_apart(samples, kinds, depths, choice.config, judge, key=jr.fold_in(key, 2**27), progress=progress)
    ends = []
    for one in tied(trials):
        chosen = choice_of(data, one.activations, config, overrides)
        # Students of several kinds have no place in one store.
        recovery = go(one.activations, chosen, key, store=None, kinds_known=True)
        ends.append((recovery.judge.score(recovery.loss, recovery.network.n_parameters), one, recovery))
        if recovery.is_exact and not recovery.judge.is_noisy:
            break
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
