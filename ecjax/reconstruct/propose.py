"""From clusters to one network: proposals from the strictest to the laxest, and refinement as the judge.

    1. the clusters that were kept, as in the paper;
    2. the clusters that half as many students agree on, whatever their angles: a cut that loses a neuron is repaired;
    3. the neurons of each of the best students (of one, where a refinement takes long): among copies, zero groups and
       constants there are the teacher's, or nearly.

Each proposal is refined in nested choices, smallest first; the first that is exact is the answer. A network with fewer
parameters than there are numbers to explain does not reach rounding errors by chance, so it is safe to try many. Where
a refinement takes long, only all neurons of a proposal are tried: they explain whatever some of them do, and those in
excess are taken away from an exact network at little cost. Large layers, smooth ones or a single one, are taken as they
are, clusters of any angle among them, and judged with all other layers (`ecjax.reconstruct.swap`). Where steps are
dear, clusters are refined only if least squares leave so little with them that steps may make good for it.
"""

from functools import partial

import numpy as np

from ..base.deadline import NEVER, Deadline
from ..base.progress import Progress, silent
from ..cluster import LayerClustering, recut
from ..expand import Expansion, Stopping, is_small
from ..judge import Judge
from ..network import student
from ..objective import Samples
from .assemble import Candidate, Tools, assemble
from .eliminate import eliminate
from .finetune import are_dear
from .merge import merge
from .output import contributions, fit_output, neurons_of, wanted
from .select import nested_choices

_N_STUDENTS = 5  # whose own neurons are proposals, best first


class NoClustersError(ValueError):
    """There is no cluster to start from."""


def reconstruct_layer(
    expansion: Expansion,
    clustering: LayerClustering,
    samples: Samples,
    *,
    stop: Stopping,
    judge: Judge | None = None,
    frozen_below: bool = False,
    in_passing: bool = False,
    propose: bool = True,
    progress: Progress = silent,
    deadline: Deadline = NEVER,
) -> tuple[Candidate, str]:
    """The smallest exact network that the clusters or the best students lead to.

    Students with several hidden layers are reconstructed in the first of them: what stands above it is the best
    student's, wide. How a layer is judged beside other layers: `Judge.beside_students`.

    Args:
        expansion: The students, trained on these samples.
        clustering: Of the neurons of their first hidden layer.
        samples: Queries as the students saw them, and targets in units of their standard deviation.
        stop: When a refinement stops.
        judge: What counts as exact; by default what rounding explains.
        frozen_below: Whether the queries are answers of reconstructed layers, right but for small errors.
        in_passing: Whether the layer is taken as it is, to be judged with all others.
        propose: Whether to go beyond the clusters that were kept.
        progress: Called before every proposal.
        deadline: After which nothing more is proposed, once there is an answer.

    Returns:
        The network and where it was found: "clusters", "clusters of a laxer cut" or "one student". If no proposal is
        exact, the refined network of the first, without neurons that contribute nothing.

    Raises:
        NoClustersError: If there is no cluster at all to start from.
    """
    students = expansion.students
    loss, activation, width = expansion.ranked_loss, students.layers[0].activation, students.widths[0]
    wide_above = len(students.widths) > 1
    judge = Judge.of(samples) if judge is None else judge
    small = is_small(students)
    where = {"frozen_below": frozen_below, "wide_above": wide_above, "in_passing": in_passing}
    judge = judge.beside_students(expansion.lowest_loss, **where)
    tools = Tools(
        stop,
        judge,
        pad_to=width if small else 0,
        # Above a reconstructed layer it would be a map of that layer's answers, and in passing students' signs will do.
        keep_linear=not (frozen_below or in_passing),
        n_signs=1 if in_passing else Tools.n_signs,
    )
    best = student(students, int(np.argmin(loss)))
    proposals = [("clusters", best, lambda: merge(clustering, loss, activation, clusters=clustering.kept_clusters))]
    if propose and in_passing:
        # Students agree less closely here. A neuron too many goes at the end, one too few has to be looked for again.
        wider = np.flatnonzero([verdict in ("kept", "angles too wide") for verdict in clustering.verdict])
        if len(wider) > len(clustering.kept_clusters):
            many = partial(merge, clustering, loss, activation, clusters=wider)
            proposals.insert(0, ("clusters of any angle", best, many))
    if propose:
        lax, clusters = _laxer(clustering, n_most=width)
        proposals.append(("clusters of a laxer cut", best, lambda: merge(lax, loss, activation, clusters=clusters)))
        n_ones = _N_STUDENTS if small else 1
        ones = [student(students, int(i)) for i in np.argsort(loss, kind="stable")[:n_ones]]
        proposals += [("one student", one, lambda one=one: neurons_of(one)) for one in ones]

    answer = None
    for number, (source, within, proposed) in enumerate(proposals):
        if answer is not None and deadline.leaves_out("laxer proposals"):
            break
        progress("reconstruct", number, len(proposals))
        neurons = proposed()
        if not neurons.width:
            continue
        if source != "one student" and in_passing and are_dear(within, samples):
            left = fit_output(neurons, samples.x, wanted(within, samples.x, samples.y)).loss
            if not judge.may_be_made_good(left, float(loss.min())):
                continue
        choices = [np.arange(neurons.width)]
        if small:
            choices = nested_choices(neurons, samples.x, wanted(within, samples.x, samples.y), judge)
        for chosen in choices:
            refined = assemble(neurons.take(chosen), samples, within, tools, origin=tuple(chosen.tolist()))
            if refined.fits:
                refined = refined if in_passing else eliminate(refined, samples, tools)
                if refined.is_exact:
                    progress("reconstruct", len(proposals), len(proposals))
                    return refined, source
                break
        answer = answer or (_without_silent(refined, samples, tools), source)
    progress("reconstruct", len(proposals), len(proposals))
    if answer is None:
        raise NoClustersError(
            f"No cluster reaches {clustering.needed} of {clustering.n_students} students (losses {loss.min():.1e} to "
            f"{loss.max():.1e}): train longer (`max_steps`), use more or wider students, or lower `gamma`."
        )
    return answer


def removed_clusters(clustering: LayerClustering, candidate: Candidate, found_by: str) -> tuple[str, ...]:
    """Kept clusters that are not in the answer, each with the reason, in words; those that all students hold first.

    Args:
        clustering: Of the layer.
        candidate: The layer's network.
        found_by: Where that was found.
    """
    kept = clustering.kept_clusters
    if found_by != "clusters":
        return ()
    n_present = clustering.n_present[kept]
    gone = [i for i in np.argsort(-n_present, kind="stable") if i not in candidate.origin]
    reason = (
        f"the network without it is as exact (loss {candidate.loss:.0e}, {candidate.judge.limit:.0e} allowed)"
        if candidate.fits
        else "it contributes nothing to the answers"
    )
    return tuple(
        f"cluster {kept[i]}, which {n_present[i]} of {clustering.n_students} students hold, is no neuron of the "
        f"network: {reason}"
        for i in gone
    )


def _laxer(clustering: LayerClustering, *, n_most: int) -> tuple[LayerClustering, np.ndarray]:
    """The same dendrogram cut for half as many students and any angle, and its most stable clusters."""
    share = max(clustering.config.gamma / 2, 2 / clustering.n_students)
    lax = recut(clustering, gamma=min(share, 1.0), beta=np.pi / 2)
    alive = np.flatnonzero([verdict != "dead" for verdict in lax.verdict])
    return lax, alive[np.argsort(-lax.stability[alive], kind="stable")][:n_most]


def _without_silent(candidate: Candidate, samples: Samples, tools: Tools) -> Candidate:
    """Remove neurons that contribute nothing, refining after each removal."""
    while True:
        audible = tools.judge.is_audible(contributions(candidate.network, samples.x))
        if audible.all() or not audible.any():
            return candidate
        origin = tuple(place for place, stays in zip(candidate.origin, audible, strict=True) if stays)
        rest = candidate.neurons.take(audible)
        candidate = assemble(rest, samples, candidate.network, tools, origin=origin)
