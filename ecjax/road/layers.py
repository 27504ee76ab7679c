"""One hidden layer of a recovery: students are expanded, clustered and reconstructed, in rounds; then the layers above.

students, samples  ->  expand  ->  cluster  ->  reconstruct  ->  Found  ->  students of the layers above
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..base.deadline import NEVER, Deadline
from ..base.precision import in_full_precision
from ..base.progress import Progress, Stopwatch
from ..cluster import LayerClustering, cluster_layer
from ..expand import Expansion, better_of, expand, fewer, is_small, renewed
from ..expand.store import Store, part
from ..expand.students_axis import any_number
from ..judge import Evidence, Judge
from ..network import Layer, Network, hidden_states, random_students, stack, student
from ..objective import Inputs, Samples
from ..reconstruct import Candidate, NoClustersError, before_next, fit_output, reconstruct_layer
from ..reconstruct.evidence import NEW, SharedFloor, Weighed, shared_floor, weigh
from ..reconstruct.finetune import ANSWERS, MATRIX_UP_TO, QUICK_PATIENCE, quick_steps
from ..reconstruct.missing import Vectors
from ..reconstruct.thinned import thinned
from .settings import RecoveryConfig

Doubts = Callable[[float], str]
# Steps of layers below the last one, and the loss at which they are known well enough.
_SETTLING, _SETTLED = 30, 1e-10


class Found(NamedTuple):
    """A hidden layer, and what it was found from."""

    candidate: Candidate  # the layer is the first of its network
    found_by: str
    expansion: Expansion
    clustering: LayerClustering
    n_rounds: int = 1  # that students were trained in
    evidence: Evidence | None = None  # for the width, where answers have errors
    advice: str = ""  # what is likely to be the cause, where nothing exact was found

    def or_better(self, later: "Found") -> "Found":
        """Of two answers the exact one, or else the one with the lower loss."""
        rank = lambda found: (not found.candidate.is_exact, np.nan_to_num(found.candidate.loss, nan=np.inf))
        return later if rank(later) < rank(self) else self


def next_layer(
    students: Network,
    samples: Samples,
    config: RecoveryConfig,
    judge: Judge,
    *,
    key: PRNGKeyArray,
    frozen_below: bool,
    store: Store | None,
    progress: Progress,
    seconds: Stopwatch,
    trained: Expansion | None = None,
    in_passing: bool = False,
    patient: bool = True,
    before: Found | None = None,
    doubts: Doubts | None = None,
) -> Found:
    """Expand, cluster and reconstruct; again with renewed students as long as the network is not exact.

    Nor is it certain below other hidden layers that no student imitated exactly: the layer was then judged by what the
    best one reached. Above reconstructed layers, that is all there is to be had.

    When the time is up, the students that there are have to do, if they are enough to agree; no round is begun, and
    nothing is looked for beyond what leads to an answer.

    Args:
        students: Fresh ones, or those carried over from the layer below.
        samples: Queries and targets as the students see them.
        config: Settings.
        judge: What counts as exact in the network as a whole.
        key: Not to be used again.
        frozen_below: Whether the queries are answers of reconstructed layers.
        store: What is finished already.
        progress: Called as the work advances.
        seconds: Where time is noted, and how much there is.
        trained: The first round's students, if they have been trained already.
        in_passing: Whether the layer is left to the judgement of the whole network.
        patient: Whether rounds go on where the layer is not certain.
        before: What earlier rounds have found.
        doubts: Given the students' lowest loss, names a kind of network that imitates better, if there is one.
    """
    expansion, first = (None, 0) if before is None else (before.expansion, before.n_rounds)
    found, trouble, look, deadline = before, None, None, seconds.deadline
    for turn in range(first, config.n_rounds):
        if look is not None and deadline.leaves_out("further rounds"):
            found = found or look(config)._replace(n_rounds=turn)
            break
        with seconds.of("expand"):
            if trained is None or turn > first:
                begun = (
                    students
                    if expansion is None
                    else renewed(expansion, key=jr.fold_in(key, turn), scale=config.init_scale)
                )
                here = store if turn == 0 else part(store, f"round-{turn + 1}")
                trained = expand(
                    begun, samples, config=config.training(turn), key=key, store=here, progress=progress,
                    deadline=deadline, enough=any_number if turn else partial(_is_enough, config),
                )  # fmt: skip
            expansion = jax.block_until_ready(trained if expansion is None else better_of(expansion, trained))
        config = replace(config, cluster=config.cluster.of(expansion.n_students))
        _check_finite(expansion, config)
        progress("cluster", 0, 1)
        with seconds.of("cluster"):
            clustering = cluster_students(expansion, samples.x, config)
        progress("cluster", 1, 1, clusters=clustering.width)
        with seconds.of("reconstruct"):
            floor = None if frozen_below else _floor(expansion, samples, config, judge)
            judged = judge if floor is None or floor.noise is None else judge.seeing(floor.noise)
            look = partial(
                _looked_at, expansion, clustering, samples, judge=judge, judged=judged, floor=floor,
                frozen_below=frozen_below, in_passing=in_passing, progress=progress, deadline=deadline,
            )  # fmt: skip
            try:
                if turn == 0 and doubts is not None and judge.is_suspicious(expansion.lowest_loss):
                    # Before anything that takes long, whether it can succeed at all. What takes longest: of one hidden
                    # layer more proposals, of several (5-4-3-2: 6 s and 90 s) students of other kinds.
                    at_once = deadline.is_up or len(students.hidden) > 1
                    now = look(config if at_once else replace(config, propose=False))
                    if not now.candidate.fits and not deadline.leaves_out("likelier kinds of networks"):
                        advice = doubts(expansion.lowest_loss)
                        if advice:
                            return now._replace(advice=advice, n_rounds=config.n_rounds)
                        now = now if at_once else look(config)
                else:
                    now = look(config)
            except NoClustersError as error:
                trouble = error
                continue
        found = (now if found is None else found.or_better(now))._replace(n_rounds=turn + 1)
        if found.candidate.is_exact and (frozen_below or not (patient and found.candidate.judge.is_excused())):
            break
    if found is None:
        assert trouble is not None  # no round without an answer or an error
        raise trouble
    return found


def _looked_at(
    expansion: Expansion,
    clustering: LayerClustering,
    samples: Samples,
    config: RecoveryConfig,
    *,
    judge: Judge,
    judged: Judge,
    floor: SharedFloor | None,
    frozen_below: bool,
    in_passing: bool,
    progress: Progress,
    deadline: Deadline,
) -> Found:
    """The layer as reconstructed, and its width by the evidence where answers have errors."""
    told = {"in_passing": in_passing, "progress": progress, "deadline": deadline}
    found = reconstructed(expansion, clustering, samples, config, judged, frozen_below=frozen_below, **told)
    if frozen_below:
        return found
    return _weighed(found, samples, config, judge, floor) if judged.is_noisy else _completed(found, samples, config)


def _completed(found: Found, samples: Samples, config: RecoveryConfig) -> Found:
    """With a neuron that students have and the network lacks, where that is in doubt.

    What a neuron of small outgoing weights explains may be less than rounding is allowed to leave in float32. Students
    show that it is not rounding.
    """
    candidate, students = found.candidate, found.expansion.students
    in_doubt = candidate.fits and candidate.judge.is_far_above_students(candidate.loss)
    if not in_doubt or candidate.linear.any() or len(students.hidden) > 1 or not is_small(students):
        return found
    pad_to = students.widths[0]
    weighed = weigh(candidate.network, samples, stop=config.finetune, judge=candidate.judge, pad_to=pad_to)
    if not weighed.loss < candidate.loss:
        return found
    return found._replace(candidate=_settled(candidate, weighed))


def _settled(candidate: Candidate, weighed: Weighed) -> Candidate:
    """The candidate with the width that it was moved to."""
    origin = tuple(NEW if place == NEW else candidate.origin[place] for place in weighed.origin)
    return candidate._replace(network=weighed.network, loss=weighed.loss, origin=origin)


def _floor(expansion: Expansion, samples: Samples, config: RecoveryConfig, judge: Judge) -> SharedFloor | None:
    """What students of one hidden layer agree that nothing explains, where that may be errors in the answers."""
    students = expansion.students
    if len(students.hidden) > 1 or not is_small(students) or not (judge.may_see_noise or judge.is_noisy):
        return None
    if judge.fits(expansion.lowest_loss) and not judge.is_noisy:
        return None
    needed = config.cluster.n_needed(expansion.n_students)
    return shared_floor(expansion, samples, needed, stop=config.finetune, judge=judge)


def _weighed(found: Found, samples: Samples, config: RecoveryConfig, judge: Judge, floor: SharedFloor | None) -> Found:
    """The layer with the width that the evidence is for; where there is none, judged as if nothing had been seen."""
    candidate = found.candidate
    unseen = candidate._replace(judge=judge)
    if not candidate.fits or candidate.linear.any():
        return found._replace(candidate=unseen)
    students = found.expansion.students
    pad_to = students.widths[0] if is_small(students) else 0
    weighed = weigh(
        candidate.network, samples, stop=config.finetune, judge=candidate.judge, pad_to=pad_to, student=floor
    )
    settled = _settled(candidate, weighed)
    if candidate.judge.noise != judge.noise:  # which was only seen
        if judge.fits(weighed.loss):  # students had too few neurons for what is no noise
            return found._replace(candidate=settled._replace(judge=judge))
        if not weighed.evidence.stands:
            return found._replace(candidate=unseen)
    return found._replace(candidate=settled, evidence=weighed.evidence)


def reconstructed(
    expansion: Expansion,
    clustering: LayerClustering,
    samples: Samples,
    config: RecoveryConfig,
    judge: Judge,
    *,
    frozen_below: bool = False,
    in_passing: bool = False,
    progress: Progress,
    deadline: Deadline = NEVER,
) -> Found:
    """The first hidden layer that these students have."""
    candidate, found_by = reconstruct_layer(
        expansion,
        clustering,
        samples,
        stop=config.finetune,
        judge=judge,
        frozen_below=frozen_below,
        in_passing=in_passing,
        propose=config.propose,
        progress=progress,
        deadline=deadline,
    )
    return Found(candidate, found_by, expansion, clustering)


@in_full_precision
def upper_students(
    expansion: Expansion, candidate: Candidate, inputs: Inputs, config: RecoveryConfig, *, key: PRNGKeyArray
) -> tuple[Network, Float[Array, "samples width"]]:
    """Students of the layers above a reconstructed one, and the queries that these see.

    A student's next layer is carried over by least squares: the weights with which the reconstructed neurons come
    nearest to the pre-activations that the student's own made. Of a neuron that the student had in several copies, that
    is the sum of their outgoing weights.
    """
    students = expansion.students
    features = hidden_states(candidate.network, inputs)[0].h
    if config.upper == "fresh":
        shape, above = (features.shape[1], *students.shape[2:]), students.activations[1:]
        return random_students(expansion.n_students, shape, above, key=key, dtype=features.dtype), features
    uppers = []
    for i in range(expansion.n_students):
        one = student(students, i)
        fit = fit_output(candidate.neurons, inputs, jnp.nan_to_num(before_next(one, inputs)))
        carried: Layer = replace(one.layers[1], w=fit.layer(features.dtype).w, b=fit.layer(features.dtype).b)
        uppers.append(Network((carried, *one.layers[2:])))
    return stack(uppers), features


@in_full_precision
def settled(
    found: Sequence[Found], samples: Samples, config: RecoveryConfig, judge: Judge, *, progress: Progress
) -> tuple[list[Found], Inputs]:
    """Layers that were found in passing, refined together beneath the wide layers of the best student.

    The last hidden layer can be told only as well as those below it are known: before, students above 32 and 24 neurons
    of a 40-32-24-16-6 teacher, known to 1e-5, were imitated by 15 neurons in the place of 16. Large ones that are wrong
    lose needless neurons first.

    Args:
        found: All hidden layers but the last, first to last.
        samples: Queries of the first layer, and targets.
        config: Settings.
        judge: What counts as exact.
        progress: Called as the work advances.

    Returns:
        The same layers, and the inputs of the last of them.
    """
    *below, latest = found
    whole = Network((*(each.candidate.network.layers[0] for each in below), *latest.candidate.network.layers))
    whole = thinned(whole, samples, judge=judge, progress=progress)
    some = fewer(samples, whole, ANSWERS)
    stop = replace(config.finetune, max_steps=_SETTLING, patience=QUICK_PATIENCE, target_loss=_SETTLED)
    whole, loss = quick_steps(whole, some, stop=stop, widths=whole.widths)
    if not (judge.may_be_wrong(loss) and whole.n_parameters > MATRIX_UP_TO):
        whole, loss = quick_steps(whole, some, stop=stop, widths=whole.widths, careful=True)
    settled = []
    for number, each in enumerate(found):
        upper = whole.layers[number:] if each is latest else (whole.layers[number], *each.candidate.network.layers[1:])
        candidate = each.candidate._replace(network=Network(tuple(upper)))
        settled.append(each._replace(candidate=candidate._replace(loss=loss) if each is latest else candidate))
    return settled, [samples.x, *(state.h for state in hidden_states(whole, samples.x))][len(below)]


def cluster_students(expansion: Expansion, inputs: Inputs, config: RecoveryConfig) -> LayerClustering:
    """Cluster the first hidden layer's neurons of all students that did not diverge."""
    hidden = expansion.students.layers[0]
    return cluster_layer(
        np.asarray(hidden.w, float),
        np.asarray(hidden.b, float),
        activation=hidden.activation,
        counted=expansion.finite,
        inputs=np.asarray(inputs),
        config=config.cluster,
    )


def held_by(expansion: Expansion) -> Vectors:
    """Incoming vectors of all neurons that students had in their first layer, in the answers of the layer below."""
    hidden = expansion.students.layers[0]
    vectors = np.concatenate([hidden.w, hidden.b[..., None]], axis=-1)[expansion.finite]
    return vectors.reshape(-1, vectors.shape[-1]).astype(float)


def _is_enough(config: RecoveryConfig, losses: Sequence[float]) -> bool:
    """Whether students with these losses can agree on neurons, as many of them as gamma asks for."""
    n = len(losses)
    return n > 1 and int(np.isfinite(losses).sum()) >= config.cluster.of(n).n_needed(n)


def _check_finite(expansion: Expansion, config: RecoveryConfig) -> None:
    if expansion.finite.sum() < config.cluster.n_needed(expansion.n_students):
        raise ValueError(
            f"{int((~expansion.finite).sum())} of {expansion.n_students} students diverged, more than gamma leaves: "
            'try another `method` (method="adam_levenberg_marquardt" is the most careful), or look at the scale of x.'
        )
