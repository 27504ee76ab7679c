"""The road with everything checked and chosen: students, one hidden layer after another, the end."""

import itertools
import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from ..base.deadline import NEVER, Deadline
from ..base.progress import Progress, Stopwatch
from ..data import Data
from ..expand import Expansion, is_small, sufficient_width
from ..expand.store import Store, part
from ..judge import Judge
from ..network import (
    Activations,
    LayerActivation,
    Mixture,
    Network,
    as_activations,
    check_symmetry,
    n_parameters,
    random_students,
)
from ..objective import Samples, Scaling
from ..reconstruct.finetune import are_judged_together
from .advice import NOTHING_EXPLAINED, another_kind
from .choice import Choice
from .finished import finished
from .kinds import likelier
from .layers import Doubts, Found, next_layer, settled, upper_students
from .recovery import Recovery
from .settings import RecoveryConfig

# Numbers for each parameter of a student, beyond which more rows change nothing until the end: students are trained on
# 10 of them at first. Those with kinks agree to the spacing of the queries only.
ROWS, ROWS_OF_KINKS = 100, 1000


def follow(
    data: Data,
    activations: tuple[LayerActivation, ...],
    choice: Choice,
    key: PRNGKeyArray,
    *,
    allow_few: bool,
    store: Store | None,
    progress: Progress,
    trained: Expansion | None = None,
    kinds_known: bool = False,
    deadline: Deadline = NEVER,
) -> Recovery:
    """The road itself, with everything checked and chosen.

    Args:
        data: What is known of the teacher.
        activations: Of its hidden layers.
        choice: Settings, and what of them was chosen.
        key: Not to be used again.
        allow_few: See `recover`.
        store: See `recover`.
        progress: See `recover`.
        trained: The first layer's students, if they have been trained already.
        kinds_known: Whether other kinds of networks have been tried already, so that nobody looks for a likelier one.
        deadline: See `recover`.
    """
    config, seconds, depth = choice.config, Stopwatch(deadline), len(activations)
    if config.student_width == "auto":
        with seconds.of("width"):
            width = _found_width(data.suffices((1,) * depth, allow_few=allow_few), activations, config, key, progress)
        config = replace(config, student_width=width)
        choice = choice.replaced(config, f"student width {width}, by short runs")
    scale, everything, students = fresh_students(data, activations, config, key, allow_few=allow_few)
    for_each = ROWS if students.smooth else ROWS_OF_KINKS
    samples = everything if config.expand.trains_stacks else enough(everything, for_each * students.n_parameters)
    judge = judge_of(data, scale, config)
    of_layers = judge
    if samples is not everything:
        choice = choice.replaced(config, f"{len(samples.x):,} of {len(everything.x):,} rows until the last refinement")
        of_layers = replace(judge, n_numbers=judge.n_numbers * len(samples.x) // len(everything.x))
    doubts = partial(_doubts, data, samples, activations, config, of_layers, jr.fold_in(key, 2**27), seconds, progress)
    begin = partial(
        _layers, students, samples, config, of_layers, key, store=store, progress=progress, seconds=seconds,
        trained=trained, doubts=doubts if is_small(students) and config.rounds is None and not kinds_known else None,
    )  # fmt: skip
    found = begin()
    recovery = finished(data, found, scale, choice, judge, seconds, progress)
    # Layers below others, and large ones, are taken at first as they are, nearly right: the joint refinement makes that
    # good or not.
    if any(each.advice for each in found):
        return recovery
    doubtful = any(
        each.candidate.judge.is_excused() and each.n_rounds < config.n_rounds for each in found[:-1] or found
    )
    if doubtful and not recovery.is_exact and not deadline.leaves_out("further rounds of the first layers"):
        recovery = finished(data, begin(before=found), scale, choice, judge, seconds, progress)
    return recovery


def _layers(
    students: Network,
    samples: Samples,
    config: RecoveryConfig,
    judge: Judge,
    key: PRNGKeyArray,
    *,
    store: Store | None,
    progress: Progress,
    seconds: Stopwatch,
    trained: Expansion | None,
    doubts: Doubts | None,
    before: list[Found] | None = None,
) -> list[Found]:
    """All hidden layers, first to last; with more rounds for the first of them than before, if there was a before.

    Layers above one that was not given all its time are of this call alone, and not kept: with more time below they
    have other students.
    """
    everything, targets, depth = samples, samples.y, len(students.hidden)
    in_passing = are_judged_together(students, judge)
    found: list[Found] = []
    for number in range(1, depth + 1):
        name = f"layer-{number}" if before is None else f"again-layer-{number}"
        found.append(
            next_layer(
                students,
                samples,
                config,
                judge,
                # Students use up fold_in(key, 0), fold_in(key, 1), ...: everything else comes from the other end.
                key=jr.fold_in(key, 2**32 - number),
                frozen_below=number > 1,
                in_passing=in_passing,
                store=store if number == 1 else None if seconds.deadline.left_out else part(store, name),
                progress=progress if number == 1 else _numbered(progress, number),
                seconds=seconds,
                trained=trained if number == 1 and before is None else None,
                patient=before is not None,
                before=before[0] if number == 1 and before is not None else None,
                doubts=doubts if number == 1 and before is None else None,
            )
        )
        if number < depth:
            latest, inputs, key_above = found[-1], samples.x, jr.fold_in(key, 2**31 + number)
            if in_passing and number == depth - 1 and not seconds.deadline.leaves_out("refining the layers below"):
                with seconds.of("reconstruct"):
                    found, inputs = settled(found, everything, config, judge, progress=progress)
                latest = found[-1]
            students, features = upper_students(latest.expansion, latest.candidate, inputs, config, key=key_above)
            samples = Samples(features, targets, samples.weights)
    return found


def enough(samples: Samples, n_numbers: int) -> Samples:
    """So many rows as tell students everything; all of them have the last word."""
    rows = enough_rows(samples, n_numbers)
    return samples if len(rows) == len(samples.y) else samples.take(jnp.asarray(rows))


def enough_rows(samples: Samples, n_numbers: int) -> Int[np.ndarray, " rows"]:
    """Which rows these are; all of them if they are not many more."""
    n_rows, fan_out = samples.y.shape
    n = math.ceil(n_numbers / fan_out)
    return np.arange(n_rows) if n >= n_rows / 2 else np.sort(np.random.default_rng(0).permutation(n_rows)[:n])


def _doubts(
    data: Data,
    samples: Samples,
    activations: tuple[LayerActivation, ...],
    config: RecoveryConfig,
    judge: Judge,
    key: PRNGKeyArray,
    seconds: Stopwatch,
    progress: Progress,
    loss: float,
) -> str:
    """Whether students of another kind imitate better by orders of magnitude, in words; empty if none do."""
    widths = config.widths(len(activations))
    if judge.explains_nothing(loss, n_parameters((samples.x.shape[1], *widths, samples.y.shape[1]))):
        return NOTHING_EXPLAINED
    with seconds.of("kinds"):
        told = {"progress": progress, "deadline": seconds.deadline}
        better = likelier(samples, activations, loss, config, judge, key=key, **told)
    return "" if better is None else another_kind(better, loss, len(activations), data)


def checked_activations(activation: Activations, hidden_layers: int) -> tuple[LayerActivation, ...]:
    """The activation of each hidden layer, its claims put to the test.

    Raises:
        ValueError: If nothing can recover its neurons, or a symmetry is not what it claims.
    """
    activations = as_activations(activation, hidden_layers)
    kinds = (layer.each if isinstance(layer, Mixture) else (layer,) for layer in activations)
    for one in dict.fromkeys(itertools.chain.from_iterable(kinds)):
        if one.symmetry.polynomial:
            raise ValueError(
                f"`activation` {one.name} is a polynomial: a sum of such neurons can be written in infinitely many "
                "ways, so its layer is not determined by any data. Nothing can be recovered."
            )
        check_symmetry(one)
    return activations


def fresh_students(
    data: Data, activations: tuple[LayerActivation, ...], config: RecoveryConfig, key: PRNGKeyArray, *, allow_few: bool
) -> tuple[Scaling, Samples, Network]:
    """Scaled queries and answers, and students that have seen nothing yet."""
    widths = config.widths(len(activations))
    data = data.suffices(widths, allow_few=allow_few)
    scale = data.scaling(config.standardise)
    samples = data.scaled(scale)
    shape = (samples.x.shape[1], *widths, data.y.shape[1])
    students = random_students(config.n_students, shape, activations, key=key, dtype=data.x.dtype)
    return scale, samples, jax.tree.map(lambda leaf: config.init_scale * leaf, students)


def _found_width(
    data: Data, activations: tuple[LayerActivation, ...], config: RecoveryConfig, key: PRNGKeyArray, progress: Progress
) -> int:
    """The students' width where that is "auto"."""
    return sufficient_width(
        data.scaled(data.scaling(config.standardise)),
        activations,
        key=jr.fold_in(key, 2**30),
        hidden_layers=len(activations),
        config=config.expand,
        progress=progress,
    )


def judge_of(data: Data, scale: Scaling, config: RecoveryConfig) -> Judge:
    """What counts as exact for these answers, by what is known of their errors."""
    told, rounding = data.answers.noise, (0.0 if data.error is None else data.error) / scale.y_scale
    origin = "told" if told is not None else "computed" if data.answers.is_computed else "rounding"
    noise = math.sqrt((told or 0.0) ** 2 + float(np.mean(rounding**2)))
    judge = Judge.of(data, accepted=config.exact_loss, noise=noise, origin=origin if noise or told == 0 else "")
    return replace(judge, n_numbers=data.n_numbers)


def _numbered(progress: Progress, number: int) -> Progress:
    """Progress of a later hidden layer: its phases carry its number."""
    return lambda phase, done, total, **info: progress(f"{phase} {number}", done, total, **info)
