"""From clusters to one network: proposals from the strictest to the laxest, and refinement as the judge.

    1. the clusters that were kept, as in the paper;
    2. the clusters that half as many students agree on, whatever their angles: a cut that loses a neuron is repaired;
    3. the neurons of each of the best students (of one, where a refinement takes long): among copies, zero groups and
       constants there are the teacher's, or nearly.

Each proposal is refined in nested choices, smallest first; the first that is exact is the answer. A network with fewer
parameters than there are numbers to explain does not reach rounding errors by chance, so it is safe to try many. Where
a refinement takes long, only all neurons of a proposal are tried: they explain whatever some of them do, and those in
excess are taken away from an exact network at little cost.
"""

import numpy as np

from ..base.progress import Progress, silent
from ..cluster import Clustering, recut
from ..expand import Expansion, RefineConfig, choose_method
from ..network.networks import student
from ..objective.imitation import Inputs, Outputs
from .eliminate import eliminate
from .finetune import Candidate, exact_loss, settle, wanted
from .merge import merge
from .output import contributions, vectors_of
from .select import nested_choices

_N_STUDENTS = 5  # whose own neurons are proposals, best first
_ROOM = 1e3  # by how much wider students imitate better over slightly wrong layers than the teacher's own width ...
_RIGHT = 1e-6  # ... as long as that is a loss which a narrower network does not reach
_NIL = 1e-6  # rms contribution, in units of the targets' standard deviation, at which a neuron counts as silent


class NoClustersError(ValueError):
    """There is no cluster to start from."""


def reconstruct_layer(
    expansion: Expansion,
    clustering: Clustering,
    inputs: Inputs,
    targets: Outputs,
    *,
    config: RefineConfig,
    exact_below: float | None = None,
    frozen_below: bool = False,
    propose: bool = True,
    progress: Progress = silent,
) -> tuple[Candidate, str]:
    """The smallest exact network that the clusters or the best students lead to.

    Students with several hidden layers are reconstructed in the first of them: what stands above is the best student's,
    wide, and keeps a refinement in flat valleys. There a layer is right if the network imitates as well with it as the
    student did with its own; without one of the teacher's neurons it is worse by orders of magnitude. So it is where
    the layers below were reconstructed before and are not quite right: no width explains the targets exactly, but the
    right one nearly as well as the much wider student.

    Args:
        expansion: The students, trained on these inputs and targets.
        clustering: Of the neurons of their first hidden layer.
        inputs: Queries as the students saw them.
        targets: Targets likewise, in units of their standard deviation.
        config: When a refinement stops.
        exact_below: Loss at which a network counts as exact; by default what rounding explains.
        frozen_below: Whether the queries are answers of reconstructed layers, right but for small errors.
        propose: Whether to go beyond the clusters that were kept.
        progress: Called before every proposal.

    Returns:
        The network and where it was found: "clusters", "clusters of a laxer cut" or "one student". If no proposal is
        exact, the refined network of the first, without neurons that contribute nothing.

    Raises:
        NoClustersError: If there is no cluster at all to start from.
    """
    activation = expansion.students.activation
    loss = np.where(expansion.finite, np.asarray(expansion.loss, float), np.inf)
    width = expansion.students.widths[0]
    second_order = choose_method(activation, expansion.students.n_parameters) != "adam_lbfgs"
    exact_below = exact_loss(inputs.dtype) if exact_below is None else exact_below
    tools = {
        "config": config,
        "exact_below": exact_below,
        "pad_to": width if second_order else 0,
        "keep_linear": not frozen_below,  # above a reconstructed layer it would be a map of that layer's answers
    }
    best = student(expansion.students, int(np.argmin(loss)))
    if len(best.layers) > 2 or frozen_below:
        reached = float(loss.min())
        room = 1 if len(best.layers) > 2 else _ROOM
        tools["exact_below"] = max(exact_below, reached, min(room * reached, _RIGHT))

    proposals = [("clusters", best, lambda: merge(clustering, loss, clusters=clustering.kept_clusters))]
    if propose:
        lax, clusters = _laxer(clustering, n_most=width)
        proposals.append(("clusters of a laxer cut", best, lambda: merge(lax, loss, clusters=clusters)))
        n_ones = _N_STUDENTS if second_order else 1
        ones = [student(expansion.students, int(i)) for i in np.argsort(loss, kind="stable")[:n_ones]]
        proposals += [("one student", one, lambda one=one: vectors_of(one)) for one in ones]

    answer = None
    for number, (source, within, proposed) in enumerate(proposals):
        progress("reconstruct", number, len(proposals))
        vectors = proposed()
        if not len(vectors):
            continue
        choices = [np.arange(len(vectors))]
        if second_order:
            choices = nested_choices(vectors, inputs, wanted(within, inputs, targets), activation)
        for chosen in choices:
            refined = settle(vectors[chosen], inputs, targets, within, **tools)
            if refined.is_exact:
                return eliminate(refined, inputs, targets, **tools), source
        answer = answer or (_without_nil(refined, inputs, targets, tools), source)
    if answer is None:
        raise NoClustersError(
            f"No cluster reaches {clustering.needed} of {clustering.n_students} students (losses {loss.min():.1e} to "
            f"{loss.max():.1e}): train longer (`max_steps`), use more or wider students, or lower `gamma`."
        )
    return answer


def _laxer(clustering: Clustering, *, n_most: int) -> tuple[Clustering, np.ndarray]:
    """The same dendrogram cut for half as many students and any angle, and its most stable clusters."""
    share = max(clustering.config.gamma / 2, 2 / clustering.n_students)
    lax = recut(clustering, gamma=min(share, 1.0), beta=np.pi / 2)
    alive = np.flatnonzero([verdict != "dead" for verdict in lax.verdict])
    return lax, alive[np.argsort(-lax.stability[alive], kind="stable")][:n_most]


def _without_nil(candidate: Candidate, inputs: Inputs, targets: Outputs, tools: dict) -> Candidate:
    """Remove neurons that contribute nothing, refining after each removal."""
    while True:
        audible = contributions(candidate.network, inputs) > _NIL
        if audible.all() or not audible.any():
            return candidate
        candidate = settle(candidate.vectors[audible], inputs, targets, candidate.network, **tools)
