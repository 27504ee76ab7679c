"""The whole road: queries and answers in, the teacher's network out.

    x, y  ->  expand  ->  cluster  ->  reconstruct  ->  finetune  ->  Recovery

A deep teacher is recovered a hidden layer at a time. The neurons of a reconstructed layer answer the queries, their
answers are the queries of the layers above, and these are trained again, from where the students had them (carried
over by least squares) or afresh. At the end all weights are fine-tuned together.

`recover` alone knows all phases. Every phase can be called by itself with the records of the one before.
"""

import itertools
from dataclasses import replace
from typing import Any, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..base.progress import Progress, Stopwatch, silent
from ..cluster import Clustering
from ..data.checks import checked_activation, checked_fresh, checked_samples
from ..expand import (
    SECOND_ORDER_UP_TO,
    Expansion,
    layer_store,
    sufficient_width,
)
from ..judge.certificate import Certificate, certify
from ..judge.unidentified import unrecoverable_neurons
from ..network.activations import Activation, as_activation
from ..network.networks import Layer, Network, random_students
from ..objective.imitation import Inputs, Outputs
from ..objective.scaling import Scaling, scaling
from ..reconstruct import (
    Candidate,
    exact_loss,
    finetune,
    slimmed,
)
from .layers import Found, next_layer, reconstructed, upper_students
from .settings import RecoveryConfig, Width

_NAMED = 12  # constant inputs that are named one by one
_Config = TypeVar("_Config")


class Recovery(eqx.Module):
    """What was recovered, and everything that decided it.

    Attributes:
        network: The recovered network, for inputs and outputs as they came.
        linear: A linear map of the inputs that is part of the answer because signs stayed undecided; else None.
        loss: Final imitation loss, in units of the targets' variance.
        is_exact: Whether the loss is that of rounding errors (or below `RecoveryConfig.exact_loss`), on many more
            numbers than the network has parameters.
        found_by: For each hidden layer "clusters", as in the paper; "clusters of a laxer cut" where refinement had to
            choose among clusters of half as many students; "one student" where among the neurons of a good student.
        certificate: Whether the network is the teacher itself, and the numbers that say so.
        unidentified: What the data cannot decide, in words.
        expansions: The students that each hidden layer was clustered from. The first ones were trained on scaled inputs
            and targets; of those after them only the layers above the reconstructed ones are there.
        clusterings: One for every hidden layer.
        scaling: Between the students' units and the user's.
        config: Settings.
        seconds: Time spent in every phase.
    """

    network: Network
    linear: Layer | None
    loss: float = eqx.field(static=True)
    is_exact: bool = eqx.field(static=True)
    found_by: tuple[str, ...] = eqx.field(static=True)
    certificate: Certificate = eqx.field(static=True)
    unidentified: tuple[str, ...] = eqx.field(static=True)
    expansions: tuple[Expansion, ...]
    clusterings: tuple[Clustering, ...]
    scaling: Scaling
    config: RecoveryConfig = eqx.field(static=True)
    seconds: dict[str, float] = eqx.field(static=True)

    @property
    def widths(self) -> tuple[int, ...]:
        """How many neurons each hidden layer has, first to last."""
        return self.network.widths

    @property
    def expansion(self) -> Expansion:
        """The students as a whole, from which the first hidden layer was clustered."""
        return self.expansions[0]

    def summary(self) -> str:
        """What was found, how sure that is, and what it cost, in a few lines."""
        exact = "exact to machine precision" if self.config.exact_loss is None else "exact"
        verdict = exact if self.is_exact else "NOT exact: take the widths as a guess"
        widths = "-".join(map(str, self.network.shape))
        lines = [f"Recovered a {widths} {self.network.activation.name} network, {verdict} (loss {self.loss:.1e})."]
        layers = zip(self.expansions, self.clusterings, self.found_by, strict=True)
        for number, (expansion, clustering, found_by) in enumerate(layers, start=1):
            losses = np.asarray(expansion.loss)
            lines += [
                f"Layer {number}: {int(np.sum(expansion.finite))} of {len(losses)} students count "
                f"({expansion.method}, loss {np.nanmin(losses):.1e} to {np.nanmax(losses):.1e}).",
                f"Layer {number}: {len(clustering.kept_clusters)} clusters kept of {len(clustering.kept)} candidates, "
                f"each in at least {clustering.needed} of {clustering.n_students} students; found by {found_by}.",
            ]
        lines.append(self.certificate.summary())
        lines += [f"Cannot be known: {each}" for each in self.unidentified]
        lines.append(", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in self.seconds.items()))
        return "\n".join(lines)


def recover(
    x: Inputs | Float[np.ndarray, "samples fan_in"],
    y: Outputs | Float[np.ndarray, "samples fan_out"] | Float[Array, " samples"] | Float[np.ndarray, " samples"],
    *,
    activation: Activation | str,
    key: PRNGKeyArray,
    hidden_layers: int = 1,
    config: RecoveryConfig | None = None,
    fresh: tuple[Any, Any] | None = None,
    student_width: Width | None = None,
    n_students: int | None = None,
    gamma: float | None = None,
    beta: float | None = None,
    metric: str | None = None,
    policy: str | None = None,
    method: str | None = None,
    allow_few_samples: bool = False,
    store: Any = None,
    progress: Progress = silent,
) -> Recovery:
    """Recover a network, its width and every weight, from inputs and outputs alone.

    Args:
        x: Queries, one a row. Their dtype is the precision of the work: float64 for exact recovery.
        y: The teacher's answers, one a row (or one number a sample).
        activation: Of the teacher's hidden neurons.
        key: For the students' initial weights. Used up.
        hidden_layers: How many the teacher has.
        config: All settings; by default `RecoveryConfig.toy()`.
        fresh: More queries and answers, arrays like x and y, kept out of the recovery for its certificate.
        student_width: Overrides the config, as all that follow do.
        n_students: See `RecoveryConfig`.
        gamma: See `ClusterConfig`.
        beta: See `ClusterConfig`.
        metric: See `ClusterConfig`.
        policy: See `ClusterConfig`.
        method: See `ExpandConfig`.
        allow_few_samples: Go on although there are fewer numbers in y than parameters in a student.
        store: Finished students by number, a mutable mapping; given back, an interrupted recovery goes on where it was.
            Mini-batch training keeps its state there under "epochs", and layer l > 1 has the keys (l, ...).
        progress: Called as the work advances.

    Returns:
        The network with all that decided it. Look at `certificate` before you trust it, and at `is_exact` where that
        has doubts.

    Raises:
        ValueError: If arguments disagree or can't be used, before anything is compiled.

    Source:
        Martinelli et al., ICML 2024 (arXiv:2304.12794), Expand-and-Cluster.
    """
    activation = as_activation(activation)
    overrides = {"student_width": student_width, "n_students": n_students}
    given = config or RecoveryConfig.toy()
    cluster = _override(given.cluster, gamma=gamma, beta=beta, metric=metric, policy=policy)
    config = _override(given, cluster=cluster, expand=_override(given.expand, method=method), **overrides)
    checked_activation(activation)
    if hidden_layers < 1:
        raise ValueError(f"`hidden_layers` is how many the teacher has, at least 1; got {hidden_layers}.")
    seconds = Stopwatch()
    if config.student_width == "auto":
        x, y = checked_samples(x, y, student_widths=(1,) * hidden_layers, allow_few_samples=allow_few_samples)
        with seconds.of("width"):
            config = replace(config, student_width=_found_width(x, y, activation, hidden_layers, config, key, progress))
    widths = config.widths(hidden_layers)
    x, y = checked_samples(x, y, student_widths=widths, allow_few_samples=allow_few_samples)
    fresh = checked_fresh(fresh, x, y)

    scale, inputs, targets, students = fresh_students(x, y, activation, widths, config, key)
    found: list[Found] = []
    for number in range(1, hidden_layers + 1):
        found.append(
            next_layer(
                students,
                inputs,
                targets,
                config,
                # Students use up fold_in(key, 0), fold_in(key, 1), ...: everything else comes from the other end.
                key=jr.fold_in(key, 2**32 - number),
                frozen_below=number > 1,
                store=store if store is None or number == 1 else layer_store(store, number),
                progress=progress if number == 1 else _numbered(progress, number),
                seconds=seconds,
            )
        )
        if number < hidden_layers:
            latest, key_above = found[-1], jr.fold_in(key, 2**31 + number)
            students, inputs = upper_students(latest.expansion, latest.candidate, inputs, config, key=key_above)
    return _finished(x, y, fresh, found, scale, config, seconds, progress)


def fresh_students(
    x: Inputs, y: Outputs, activation: Activation, widths: tuple[int, ...], config: RecoveryConfig, key: PRNGKeyArray
) -> tuple[Scaling, Float[Array, "samples rank"], Outputs, Network]:
    """Scaled queries and answers, and students that have seen nothing yet."""
    scale = scaling(x, y, standardise=config.standardise)
    inputs, targets = scale.inputs(x), scale.targets(y)
    shape = (inputs.shape[1], *widths, y.shape[1])
    students = random_students(config.n_students, shape, activation, key=key, dtype=x.dtype)
    return scale, inputs, targets, jax.tree.map(lambda leaf: config.init_scale * leaf, students)


def _found_width(x, y, activation, hidden_layers: int, config: RecoveryConfig, key: PRNGKeyArray, progress) -> int:
    """The students' width where that is "auto"."""
    scale = scaling(x, y, standardise=config.standardise)
    return sufficient_width(
        scale.inputs(x),
        scale.targets(y),
        activation,
        key=jr.fold_in(key, 2**30),
        hidden_layers=hidden_layers,
        config=config.expand,
        progress=progress,
    )


def rebuild(
    recovery: Recovery,
    clustering: Clustering,
    x: Inputs,
    y: Outputs,
    *,
    fresh: tuple[Any, Any] | None = None,
    progress: Progress = silent,
) -> Recovery:
    """The recovery that another clustering of the same students leads to; nothing is trained again but the result.

    Args:
        recovery: Whose students were clustered.
        clustering: Theirs, cut again; see `ecjax.recut`.
        x: The queries of that recovery.
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
    x, y = checked_samples(x, y, student_widths=config.widths(1), allow_few_samples=True)
    fresh = checked_fresh(fresh, x, y)
    seconds = Stopwatch()
    inputs, targets = recovery.scaling.inputs(x), recovery.scaling.targets(y)
    with seconds.of("reconstruct"):
        found = reconstructed(recovery.expansion, clustering, inputs, targets, config, progress=progress)
    return _finished(x, y, fresh, [found], recovery.scaling, config, seconds, progress)


def _finished(
    x, y, fresh, found: list[Found], scale: Scaling, config: RecoveryConfig, seconds: Stopwatch, progress: Progress
) -> Recovery:
    """All layers fine-tuned together, in the user's units."""
    inputs, targets, last = scale.inputs(x), scale.targets(y), found[-1].candidate
    exact_below = exact_loss(x.dtype) if config.exact_loss is None else config.exact_loss
    progress("finetune", 0, 1)
    with seconds.of("finetune"):
        below = (each.candidate.network.layers[0] for each in found[:-1])
        network = Network((*below, *last.network.layers), last.network.activation)
        rest = targets
        if last.linear.any():  # only beside a single hidden layer: above others no linear map is kept
            rest = targets - jnp.asarray(np.asarray(inputs, float) @ last.linear.T, x.dtype)
        students = found[0].expansion.students  # small ones are padded to, so that their compiled program serves again
        pad_to = students.widths[0] if students.n_parameters <= SECOND_ORDER_UP_TO else 0
        network, loss = finetune(network, inputs, rest, config=config.finetune, exact_below=exact_below, pad_to=pad_to)
        if len(found) > 1 and loss <= exact_below:
            network, loss = slimmed(network, loss, inputs, targets, config=config.finetune, exact_below=exact_below)
    progress("finetune", 1, 1)
    refined = Candidate(network, last.linear, loss, exact_below)
    network, linear = scale.undo(network, last.linear if len(found) == 1 else None)
    network = normalised(network)
    with seconds.of("certify"):
        certificate = certify(network, x, y, exact_below=exact_below, fresh=fresh, linear=linear)
    return Recovery(
        network=network,
        linear=linear,
        loss=loss,
        is_exact=refined.is_exact,
        found_by=tuple(each.found_by for each in found),
        certificate=certificate,
        unidentified=(*_unidentified(refined, scale, x), *unrecoverable_neurons(refined.network, inputs)),
        expansions=tuple(each.expansion for each in found),
        clusterings=tuple(each.clustering for each in found),
        scaling=scale,
        config=config,
        seconds=seconds.seconds,
    )


def normalised(net: Network) -> Network:
    """The same function with incoming vectors (w, b) of norm 1, if the activation is positive homogeneous."""
    if not net.activation.symmetry.homogeneous:
        return net
    layers = list(net.layers)
    for i, (hidden, following) in enumerate(itertools.pairwise(net.layers)):
        hidden = Layer(layers[i].w, hidden.b)  # scaled by the layer before
        norm = jnp.sqrt(jnp.sum(hidden.w**2, axis=-1) + hidden.b**2)
        norm = jnp.where(norm == 0, 1, norm)
        layers[i] = Layer(hidden.w / norm[:, None], hidden.b / norm)
        layers[i + 1] = Layer(following.w * norm[None], following.b)
    return Network(tuple(layers), net.activation)


def _unidentified(candidate: Candidate, scale: Scaling, x: Inputs) -> tuple[str, ...]:
    """What the data cannot decide, in words."""
    notes = []
    if scale.n_hidden_directions:
        constant = np.flatnonzero(np.ptp(np.asarray(x), axis=0) == 0)
        named = ", ".join(map(str, constant[:_NAMED])) + (", ..." if len(constant) > _NAMED else "")
        columns = f" (constant inputs: {named})" if len(constant) else ""
        notes.append(
            f"{scale.n_hidden_directions} of {x.shape[1]} input directions do not vary{columns}; weights along "
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
