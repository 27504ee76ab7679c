"""The end of the road: all layers refined together, weighed among errors, certified, in the user's units."""

from dataclasses import replace
from typing import Any

import numpy as np

from ..base.precision import in_full_precision
from ..base.progress import Progress, Stopwatch, silent
from ..base.threads import one_blas_thread
from ..cluster import LayerClustering
from ..data import Data
from ..expand import is_small
from ..judge import Evidence, Judge, certify, standard_errors, unrecoverable_neurons
from ..network import Network
from ..network.moves import with_unit_vectors
from ..objective import Samples, Scaling
from ..reconstruct import Candidate, eliminate_in_all_layers, finetune, removed_clusters
from ..reconstruct.assemble import less_linear
from ..reconstruct.evidence import weigh
from ..reconstruct.finetune import are_judged_together
from ..reconstruct.swap import swapped
from .advice import of_the_end
from .choice import Choice
from .layers import Found, held_by, reconstructed
from .recovery import Recovery
from .settings import RecoveryConfig

_NAMED = 12  # constant inputs that are named one by one


@in_full_precision
def finished(
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
        together = are_judged_together(students, judge)
        if together:
            held = [held_by(each.expansion) for each in found]
            told = {"progress": progress, "deadline": seconds.deadline}
            network = swapped(network, samples, held, stop=config.finetune, judge=judge, **told)
        loss = float(rest.value(network))
        is_done = together and judge.accepted is not None and judge.fits(loss)  # swaps went as far as it pays
        if not (is_done or judge.is_at_rounding(loss)):
            network, loss = finetune(network, rest, stop=config.finetune, judge=judge, pad_to=pad_to)
        if (together or len(found) > 1) and judge.fits(loss):
            network, loss = eliminate_in_all_layers(network, loss, samples, stop=config.finetune, judge=judge)
    progress("finetune", 1, 1)
    evidence, plain = (), not last.linear.any()
    if judge.is_noisy and judge.fits(loss) and plain:
        with seconds.of("finetune"):
            network, loss, evidence = _with_evidence(network, loss, samples, found, config, judge)
    refined = Candidate(network, last.linear, loss, judge, last.origin)
    network, linear = scale.undo(network, last.linear if len(found) == 1 else None)
    network = with_unit_vectors(network)
    with seconds.of("certify"):
        errors = None
        if judge.is_noisy and is_small(network) and plain and judge.explains(network.n_parameters):
            errors = standard_errors(network, data.x, data.y, weights=data.weights)
        fresh, told = data.fresh, {"evidence": evidence, "errors": errors, "weights": data.weights}
        certificate = certify(network, data.x, data.y, judge=judge, fresh=fresh, linear=linear, **told)
    is_exact = refined.is_exact and all(each.stands for each in evidence)
    advice = next((each.advice for each in found if each.advice), "")
    if not advice:
        left = np.asarray(rest.errors(refined.network), float)
        advice = of_the_end(left, is_exact, found[0].expansion.lowest_loss, students.n_parameters, judge, data)
    return Recovery(
        network=network,
        linear=linear,
        loss=loss,
        is_exact=is_exact,
        evidence=evidence,
        errors=errors,
        found_by=tuple(each.found_by for each in found),
        certificate=certificate,
        chosen=choice.words,
        advice=advice,
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


def _with_evidence(
    network: Network, loss: float, samples: Samples, found: list[Found], config: RecoveryConfig, judge: Judge
) -> tuple[Network, float, tuple[Evidence, ...]]:
    """All hidden layers with the widths that the evidence is for."""
    if len(found) == 1 and found[0].evidence is not None and found[0].evidence.width == network.widths[0]:
        return network, loss, (found[0].evidence,)
    evidence = []
    for layer in range(len(network.widths)):
        network, loss, here, _ = weigh(network, samples, layer=layer, stop=config.finetune, judge=judge)
        evidence.append(here)
    return network, loss, tuple(evidence)


def _unidentified(candidate: Candidate, scale: Scaling, data: Data) -> tuple[str, ...]:
    """What the data cannot decide, in words."""
    notes = []
    if data.answers.are_probabilities and data.y.shape[1] > 1:
        notes.append("a shift that all logits of a query have in common: theirs add up to 0.")
    if scale.n_hidden_directions:
        constant = scale.constant_inputs
        called = [data.inputs[i] for i in constant] if data.inputs else constant
        named = ", ".join(map(str, called[:_NAMED])) + (", ..." if len(constant) > _NAMED else "")
        columns = f" (constant inputs: {named})" if len(constant) else ""
        notes.append(
            f"{scale.n_hidden_directions} of {len(scale.x_mean)} input directions do not vary{columns}; weights along "
            "them are invisible and set to 0."
        )
    if np.any(candidate.linear):
        notes.append("the signs of some neurons: a linear map of the inputs is kept beside the network.")
    return tuple(notes)


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
            passing = are_judged_together(recovery.expansion.students, judge)
            told = {"in_passing": passing, "progress": progress}
            found = reconstructed(recovery.expansion, clustering, samples, config, judge, **told)
        return finished(data, [found], recovery.scaling, Choice(config, recovery.chosen), judge, seconds, progress)
