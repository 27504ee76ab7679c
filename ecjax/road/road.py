"""The whole road: queries and answers in, the teacher's network out.

    x, y  ->  expand  ->  cluster  ->  reconstruct  ->  finetune  ->  Recovery

A deep teacher is recovered a hidden layer at a time. The neurons of a reconstructed layer answer the queries, their
answers are the queries of the layers above, and these are trained again, from where the students had them (carried
over by least squares) or afresh. At the end all weights are fine-tuned together.

`recover` alone knows all phases. Every phase can be called by itself with the records of the one before.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..base.precision import in_full_precision
from ..base.progress import Progress, Stopwatch, silent
from ..base.threads import one_blas_thread
from ..cluster import LayerClustering, Metric
from ..data import Answers, Data, Teacher
from ..expand import Expansion, is_small, sufficient_width
from ..expand.store import Store, part
from ..judge import Evidence, Judge, certify, standard_errors, unrecoverable_neurons
from ..network import (
    Activation,
    Activations,
    LayerActivation,
    Mixture,
    Network,
    as_activations,
    check_symmetry,
    random_students,
)
from ..network.moves import with_unit_vectors
from ..objective import Samples, Scaling
from ..reconstruct import Candidate, eliminate_in_all_layers, finetune, removed_clusters
from ..reconstruct.assemble import less_linear
from ..reconstruct.evidence import weigh
from .asking import AUTO, ProbesFailedError, recover_by_asking, with_answers
from .choice import Choice, chosen_from
from .kinds import CLASSES, DEPTHS, N_TRIED, likelier, same_functions, tell_apart, tied
from .layers import Doubts, Found, next_layer, reconstructed, upper_students
from .recovery import Recovery
from .settings import RecoveryConfig, Width

# Numbers for each parameter of a student, beyond which more rows change nothing until the end: students are trained on
# 10 of them at first. Those with kinks agree to the spacing of the queries only.
_ROWS, _ROWS_OF_KINKS = 100, 1000
_NAMED = 12  # constant inputs that are named one by one
_Config = TypeVar("_Config")


def recover(
    x: Data | Teacher | Float[Array, "samples fan_in"] | Float[np.ndarray, "samples fan_in"],
    y: Any = None,
    *,
    activation: Activations,
    key: PRNGKeyArray,
    hidden_layers: int | Literal["auto"] = 1,
    config: RecoveryConfig | None = None,
    fresh: tuple[Any, Any] | None = None,
    answers: Answers | None = None,
    student_width: Width | None = None,
    n_students: int | None = None,
    gamma: float | None = None,
    beta: float | None = None,
    metric: str | Metric | None = None,
    policy: str | None = None,
    n_clusters: int | None = None,
    height: float | None = None,
    method: Any = None,
    allow_few_samples: bool = False,
    store: Store | None = None,
    progress: Progress = silent,
) -> Recovery:
    """Recover a network, its width and every weight, from inputs and outputs alone.

    Args:
        x: Queries, one a row. Their dtype is the precision of the work: float64 for exact recovery. Or `Data`, with
            the answers in it. Or a `Teacher`, who is asked what is worth asking (`ecjax.road.asking`).
        y: The teacher's answers, one a row (or one number a sample).
        activation: Of the teacher's hidden neurons: a name, an `Activation`, or one for each hidden layer. A `Mixture`
            says it neuron by neuron of the students. "auto": found by short runs of students of each kind in the
            catalogue (`ecjax.road.kinds`), or, of a `Teacher`, by looking at single neurons.
        key: For the students' initial weights. Used up.
        hidden_layers: How many the teacher has. "auto": 1, 2 or 3, found by short runs likewise.
        config: All settings; by default they are chosen from the data (`ecjax.road.choice`), and the recovery says how.
        fresh: More queries and answers, arrays like x and y, kept out of the recovery for its certificate.
        answers: What is known of them, their noise, rounding, or that they are probabilities; the rest is found from
            them, where it can be (`ecjax.data.answers`).
        student_width: Overrides the config, as all that follow do.
        n_students: See `RecoveryConfig`.
        gamma: See `ClusterConfig`.
        beta: See `ClusterConfig`.
        metric: See `ClusterConfig`.
        policy: See `ClusterConfig`.
        n_clusters: See `ClusterConfig`; goes with the policy "count", and chooses it.
        height: See `ClusterConfig`; goes with the policy "height", and chooses it.
        method: See `ExpandConfig`.
        allow_few_samples: Go on although there are fewer numbers in y than parameters in a student.
        store: What is finished, a mutable mapping (see `ecjax.expand.store`); given back, an interrupted recovery goes
            on where it was. A store that belongs to other data, settings or another key is refused.
        progress: Called as the work advances.

    Returns:
        The network with all that decided it. Look at `certificate` before you trust it, and at `is_exact` where that
        has doubts.

    Raises:
        ValueError: If arguments disagree or can't be used, before anything is compiled.

    Source:
        Martinelli et al., ICML 2024 (arXiv:2304.12794), Expand-and-Cluster.
    """
    if hidden_layers != AUTO and hidden_layers < 1:
        raise ValueError(f"`hidden_layers` is how many the teacher has, at least 1; got {hidden_layers}.")
    overrides = _Overrides(student_width, n_students, gamma, beta, metric, policy, n_clusters, height, method)
    why, asked = (), 0
    if isinstance(x, Teacher):
        if y is not None or fresh is not None or answers is not None:
            raise ValueError("`x` is a Teacher, who is asked for answers: leave `y`, `fresh` and `answers` out.")
        if hidden_layers == AUTO:
            raise ValueError('`hidden_layers` "auto" is for answers that lie about: say how many the Teacher has.')
        kinds = None if activation == AUTO else checked_activations(activation, hidden_layers)
        try:
            with one_blas_thread():
                return recover_by_asking(
                    x, kinds, hidden_layers=hidden_layers, key=key, config=config, progress=progress
                )
        except ProbesFailedError as error:
            if kinds is None:
                raise  # students have to be told
            why = (f"students, as probes do not reach: {error}",)
        teacher, x = x, with_answers(x, key=jr.fold_in(key, 2**28))
        asked = teacher.asked
    data = x if isinstance(x, Data) else Data.of(x, y, fresh=fresh, answers=answers)
    if isinstance(x, Data) and not (y is None and fresh is None and answers is None):
        raise ValueError("`x` is Data, which has answers of its own: leave `y`, `fresh` and `answers` out.")
    go = partial(follow, data, allow_few=allow_few_samples, progress=progress)
    with one_blas_thread():
        if (isinstance(activation, str) and AUTO in (activation, hidden_layers)) or hidden_layers == AUTO:
            recovery = _of_unknown_kind(data, activation, hidden_layers, config, overrides, key, go, progress)
        else:
            activations = checked_activations(activation, hidden_layers)
            recovery = go(activations, _choice(data, activations, config, overrides), key, store=store)
    return replace(recovery, chosen=(*why, *data.notes, *recovery.chosen), questions=asked)


class _Overrides(NamedTuple):
    """Settings that were given to `recover` by themselves."""

    student_width: Width | None
    n_students: int | None
    gamma: float | None
    beta: float | None
    metric: str | Metric | None
    policy: str | None
    n_clusters: int | None
    height: float | None
    method: Any

    def of(self, config: RecoveryConfig) -> RecoveryConfig:
        """The config with what was given in its place."""
        policy = self.policy or (
            "count" if self.n_clusters is not None else "height" if self.height is not None else None
        )
        clusters = {"gamma": self.gamma, "beta": self.beta, "metric": self.metric, "policy": policy}
        clusters |= {"n_clusters": self.n_clusters, "height": self.height}
        cluster, train = _override(config.cluster, **clusters), _override(config.expand, method=self.method)
        students = {"student_width": self.student_width, "n_students": self.n_students}
        return _override(config, **students, cluster=cluster, expand=train)


def _choice(
    data: Data, activations: tuple[LayerActivation, ...], config: RecoveryConfig | None, overrides: _Overrides
) -> Choice:
    """The settings that were given, and the others chosen from the data."""
    choice = Choice(config, ()) if config is not None else chosen_from(data, activations)
    return choice.replaced(overrides.of(choice.config))


def _of_unknown_kind(
    data: Data,
    activation: Activations,
    hidden_layers: int | str,
    config: RecoveryConfig | None,
    overrides: _Overrides,
    key: PRNGKeyArray,
    go: Callable[..., Recovery],
    progress: Progress,
) -> Recovery:
    """Kinds are told apart by short runs, then those that are not by what they end with."""
    depths = DEPTHS if hidden_layers == AUTO else (cast(int, hidden_layers),)
    kinds = tuple(CLASSES) if activation == AUTO else (cast(Any, activation),)
    if activation != AUTO and not isinstance(activation, str | Activation):
        raise ValueError('`hidden_layers` "auto" goes with one activation for all of them, by its name.')
    like = checked_activations(kinds[0], depths[-1])
    choice = _choice(data, like, config, overrides)
    if choice.config.student_width == "auto":
        raise ValueError('`student_width` is "auto", and so is the kind of network: give one of them.')
    if choice.config.expand.trains_stacks:
        raise ValueError(f"{AUTO!r} is for students trained one by one; method {choice.config.expand.method!r} is not.")
    scale = data.suffices(choice.config.widths(depths[0])).scaling(choice.config.standardise)
    judge, seconds = judge_of(data, scale, choice.config), Stopwatch()
    samples = data.scaled(scale)
    with seconds.of("kinds"):
        trials = tell_apart(samples, kinds, depths, choice.config, judge, key=jr.fold_in(key, 2**27), progress=progress)
    best, ends = None, []
    for one in tied(trials):
        store = None  # students of several kinds have no place in one store
        recovery = go(one.activations, _choice(data, one.activations, config, overrides), key, store=store)
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
) -> Recovery:
    """The road itself, with everything checked and chosen.

    Args:
        data: What is known of the teacher.
        activations: Of its hidden layers.
        choice: Settings, and what of them was chosen.
        key: Used up.
        allow_few: See `recover`.
        store: See `recover`.
        progress: See `recover`.
        trained: The first layer's students, if they have been trained already.
    """
    config, seconds, depth = choice.config, Stopwatch(), len(activations)
    if config.student_width == "auto":
        with seconds.of("width"):
            width = _found_width(data.suffices((1,) * depth, allow_few=allow_few), activations, config, key, progress)
        config = replace(config, student_width=width)
        choice = choice.replaced(config, f"student width {width}, by short runs")
    scale, everything, students = fresh_students(data, activations, config, key, allow_few=allow_few)
    samples = everything if config.expand.trains_stacks else _enough(everything, students)
    judge = judge_of(data, scale, config)
    of_layers = judge
    if samples is not everything:
        choice = choice.replaced(config, f"{len(samples.x):,} of {len(everything.x):,} rows until the last refinement")
        of_layers = replace(judge, n_numbers=samples.n_numbers)
    doubts = partial(_doubts, samples, activations, config, of_layers, jr.fold_in(key, 2**27), seconds, progress)
    begin = partial(
        _layers, students, samples, config, of_layers, key, store=store, progress=progress, seconds=seconds,
        trained=trained, doubts=doubts if is_small(students) and config.rounds is None else None,
    )  # fmt: skip
    found = begin()
    recovery = _finished(data, found, scale, choice, judge, seconds, progress)
    # Layers below others are taken at first as they are, nearly right: the joint refinement makes that good or not.
    if recovery.advice:
        return recovery
    doubtful = any(each.candidate.judge.is_excused() and each.n_rounds < config.n_rounds for each in found[:-1])
    if doubtful and not recovery.is_exact:
        recovery = _finished(data, begin(before=found), scale, choice, judge, seconds, progress)
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
    """All hidden layers, first to last; with more rounds for the first of them than before, if there was a before."""
    targets, depth = samples.y, len(students.hidden)
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
                store=store if number == 1 else part(store, name),
                progress=progress if number == 1 else _numbered(progress, number),
                seconds=seconds,
                trained=trained if number == 1 and before is None else None,
                patient=before is not None,
                before=before[0] if number == 1 and before is not None else None,
                doubts=doubts if number == 1 and before is None else None,
            )
        )
        if number < depth:
            latest, key_above = found[-1], jr.fold_in(key, 2**31 + number)
            students, inputs = upper_students(latest.expansion, latest.candidate, samples.x, config, key=key_above)
            samples = Samples(inputs, targets, samples.weights)
    return found


def _enough(samples: Samples, students: Network) -> Samples:
    """So many rows as tell students of this size everything; all of them have the last word."""
    n_rows, fan_out = samples.y.shape
    of_one = students.n_parameters * (_ROWS if students.smooth else _ROWS_OF_KINKS)
    n = math.ceil(of_one / fan_out)
    if n >= n_rows / 2:
        return samples
    return samples.take(jnp.asarray(np.sort(np.random.default_rng(0).permutation(n_rows)[:n])))


def _doubts(
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
    with seconds.of("kinds"):
        better = likelier(samples, activations, loss, config, judge, key=key, progress=progress)
    if better is None:
        return ""
    depth = len(better.activations)
    name = better.activations[0].name
    said = f'activation="{name}"' if depth == len(activations) else f"hidden_layers={depth}"
    return (
        f"another kind of network than named: in a short run of {N_TRIED} students, {better.name} reaches a loss of "
        f"{better.loss:.0e}, where yours reach {loss:.0e}. Say {said}"
    )


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
        data.scaling(config.standardise).samples(data.x, data.y),
        activations,
        key=jr.fold_in(key, 2**30),
        hidden_layers=len(activations),
        config=config.expand,
        progress=progress,
    )


def rebuild(
    recovery: Recovery,
    clustering: LayerClustering,
    x: Any,
    y: Any = None,
    *,
    fresh: tuple[Any, Any] | None = None,
    progress: Progress = silent,
) -> Recovery:
    """The recovery that another clustering of the same students leads to; nothing is trained again but the result.

    Args:
        recovery: Whose students were clustered.
        clustering: Theirs, cut again; see `ecjax.recut`.
        x: The queries of that recovery, or its `Data`.
        y: The answers.
        fresh: See `recover`.
        progress: Called as the work advances.
    """
    if len(recovery.clusterings) != 1:
        raise ValueError(
            f"`recovery` has {len(recovery.clusterings)} hidden layers: another cut of one of them means training the "
            "layers above it again. Recover once more with the new settings."
        )
    config = replace(recovery.config, cluster=clustering.config)
    data = x if isinstance(x, Data) else Data.of(x, y, fresh=fresh)
    samples, seconds = data.scaled(recovery.scaling), Stopwatch()
    judge = replace(recovery.judge, reached=float("inf"))
    with one_blas_thread():
        with seconds.of("reconstruct"):
            found = reconstructed(recovery.expansion, clustering, samples, config, judge, progress=progress)
        return _finished(data, [found], recovery.scaling, Choice(config, recovery.chosen), judge, seconds, progress)


def judge_of(data: Data, scale: Scaling, config: RecoveryConfig) -> Judge:
    """What counts as exact for these answers, by what is known of their errors."""
    told, rounding = data.answers.noise, (0.0 if data.error is None else data.error) / scale.y_scale
    origin = "told" if told is not None else "computed" if data.answers.is_computed else "rounding"
    noise = math.sqrt((told or 0.0) ** 2 + float(np.mean(rounding**2)))
    judge = Judge.of(data, accepted=config.exact_loss, noise=noise, origin=origin if noise or told == 0 else "")
    return replace(judge, n_numbers=data.n_numbers)


@in_full_precision
def _finished(
    data: Data,
    found: list[Found],
    scale: Scaling,
    choice: Choice,
    judge: Judge,
    seconds: Stopwatch,
    progress: Progress,
) -> Recovery:
    """All layers fine-tuned together, in the user's units."""
    config, samples, last = choice.config, data.scaled(scale), found[-1].candidate
    seen = found[0].candidate.judge
    judge = replace(judge, noise=seen.noise, origin=seen.origin).informed(found[0].expansion.lowest_loss)
    progress("finetune", 0, 1)
    with seconds.of("finetune"):
        below = (each.candidate.network.layers[0] for each in found[:-1])
        network = Network((*below, *last.network.layers))
        # Only beside a single hidden layer: above others no linear map is kept.
        rest = samples.with_answers(less_linear(samples, last.linear)) if last.linear.any() else samples
        students = found[0].expansion.students  # small ones are padded to, so that their compiled program serves again
        pad_to = students.widths[0] if is_small(students) else 0
        loss = float(rest.value(network))
        if not judge.is_at_rounding(loss):
            network, loss = finetune(network, rest, stop=config.finetune, judge=judge, pad_to=pad_to)
        if len(found) > 1 and judge.fits(loss):
            network, loss = eliminate_in_all_layers(network, loss, samples, stop=config.finetune, judge=judge)
    progress("finetune", 1, 1)
    evidence, plain = (), not last.linear.any()
    if judge.is_noisy and judge.fits(loss) and plain:
        with seconds.of("finetune"):
            network, loss, evidence = _weighed(network, loss, samples, found, config, judge)
    refined = Candidate(network, last.linear, loss, judge, last.origin)
    network, linear = scale.undo(network, last.linear if len(found) == 1 else None)
    network = with_unit_vectors(network)
    with seconds.of("certify"):
        errors = None
        if judge.is_noisy and is_small(network) and plain and judge.explains(network.n_parameters):
            errors = standard_errors(network, data.x, data.y, weights=data.weights)
        fresh, told = data.fresh, {"evidence": evidence, "errors": errors, "weights": data.weights}
        certificate = certify(network, data.x, data.y, judge=judge, fresh=fresh, linear=linear, **told)
    return Recovery(
        network=network,
        linear=linear,
        loss=loss,
        is_exact=refined.is_exact and all(each.stands for each in evidence),
        evidence=evidence,
        errors=errors,
        found_by=tuple(each.found_by for each in found),
        certificate=certificate,
        chosen=choice.words,
        advice=next((each.advice for each in found if each.advice), ""),
        removed=tuple(
            f"layer {number}: {why}"
            for number, each in enumerate(found, start=1)
            for why in removed_clusters(each.clustering, each.candidate, each.found_by)
        ),
        unidentified=(*_unidentified(refined, scale, data), *unrecoverable_neurons(refined.network, samples.x)),
        expansions=tuple(each.expansion for each in found),
        clusterings=tuple(each.clustering for each in found),
        scaling=scale,
        config=config,
        judge=judge,
        seconds=seconds.seconds,
    )


def _weighed(
    network: Network, loss: float, samples: Samples, found: list[Found], config: RecoveryConfig, judge: Judge
) -> tuple[Network, float, tuple[Evidence, ...]]:
    """All hidden layers with the widths that the evidence is for."""
    if len(found) == 1 and found[0].evidence is not None and found[0].evidence.width == network.widths[0]:
        return network, loss, (found[0].evidence,)
    evidence = []
    for layer in range(len(network.widths)):
        network, loss, here = weigh(network, samples, layer=layer, stop=config.finetune, judge=judge)
        evidence.append(here)
    return network, loss, tuple(evidence)


def _unidentified(candidate: Candidate, scale: Scaling, data: Data) -> tuple[str, ...]:
    """What the data cannot decide, in words."""
    notes = []
    if data.answers.are_probabilities and data.y.shape[1] > 1:
        notes.append("a shift that all logits of a query have in common: theirs add up to 0.")
    if scale.n_hidden_directions:
        constant = scale.constant_inputs
        named = ", ".join(map(str, constant[:_NAMED])) + (", ..." if len(constant) > _NAMED else "")
        columns = f" (constant inputs: {named})" if len(constant) else ""
        notes.append(
            f"{scale.n_hidden_directions} of {len(scale.x_mean)} input directions do not vary{columns}; weights along "
            "them are invisible and set to 0."
        )
    if np.any(candidate.linear):
        notes.append("the signs of some neurons: a linear map of the inputs is kept beside the network.")
    return tuple(notes)


def _numbered(progress: Progress, number: int) -> Progress:
    """Progress of a later hidden layer: its phases carry its number."""
    return lambda phase, done, total, **info: progress(f"{phase} {number}", done, total, **info)


def _override(config: _Config, **values: Any) -> _Config:
    """A config with the values that are not None."""
    return replace(cast(Any, config), **{name: value for name, value in values.items() if value is not None})
