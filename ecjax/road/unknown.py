"""Recovery of a network whose activation or depth nobody named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, cast

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
from .kinds import CLASSES, DEPTHS, PIECEWISE_LINEAR, same_functions, stands_out, tell_apart, tied
from .recovery import Recovery
from .settings import RecoveryConfig
from .trials import Trial

_OPPOSITE = 1e-2  # from -1, of the cosine of two neurons' pre-activations; leaky relu by relu: 6e-5


class End(NamedTuple):
    """What following one kind to its end led to."""

    trial: Trial
    recovery: Recovery

    @property
    def is_beyond_doubt(self) -> bool:
        """Whether no other kind has to be looked at."""
        return self.recovery.is_exact and not self.recovery.judge.is_noisy

    @property
    def score(self) -> float:
        """By how much the evidence is against it, a linear map counted like the neurons that it stands beside."""
        beside = 0 if self.recovery.linear is None else self.recovery.linear.w.size
        return self.recovery.judge.score(self.recovery.loss, self.recovery.network.n_parameters + beside)


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
    of_short_runs = {"key": jr.fold_in(key, 2**27), "progress": progress, "deadline": deadline}

    def followed(one: Trial) -> End:
        """To the end; students of several kinds have no place in one store."""
        chosen = choice_of(data, one.activations, config, overrides)
        return End(one, go(one.activations, chosen, key, store=None, kinds_known=True))

    ends: list[End] = []
    for thorough in (False, True):
        with seconds.of("kinds"):
            trials = tell_apart(samples, kinds, depths, choice.config, judge, thorough=thorough, **of_short_runs)
            todo = tied(trials, samples, choice.config, judge, **of_short_runs)
        for one in todo:
            if ends and deadline.leaves_out("other kinds of networks"):
                break
            if one.activations not in [end.trial.activations for end in ends]:
                ends.append(followed(one))
            if ends[-1].is_beyond_doubt:
                break
        if any(end.recovery.is_exact for end in ends) or not stands_out(trials, judge):
            break  # there is nothing that a thorough search would add
        if deadline.leaves_out("other kinds of networks"):
            break
    latest = ends[-1]
    for name in PIECEWISE_LINEAR if latest.is_beyond_doubt and _linear_part(latest.recovery, data) else ():
        if deadline.leaves_out("other kinds of networks"):
            break
        if name in kinds and name != latest.trial.activations[0].name:
            ends.append(followed(Trial(as_activations(name, len(latest.trial.activations)), latest.trial.loss)))
            if ends[-1].is_beyond_doubt and not _linear_part(ends[-1].recovery, data):
                break
    ends.sort(key=lambda end: (not end.recovery.is_exact, end.score))
    best, recovery = ends[0]
    rivals = [end for end in ends[1:] if end.recovery.is_exact and end.score - ends[0].score <= judge.chance(1)]
    others = [one for one in trials if one is not best]
    beside = f"; {others[0].name} reaches {others[0].loss:.0e}" if others else ""
    words = f"{best.name}{same_functions(best.activations[0].name)}, by short runs (loss {best.loss:.0e}{beside})"
    explain = " and ".join(end.trial.name for end in rivals)
    undecided = (f"the activation: {explain} explain as much.",) if rivals else ()
    return replace(
        recovery,
        chosen=(words, *recovery.chosen),
        unidentified=(*recovery.unidentified, *undecided),
        seconds={**seconds.seconds, **recovery.seconds},
    )


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
