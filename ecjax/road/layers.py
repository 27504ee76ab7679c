"""One hidden layer of a recovery: students are expanded, clustered and reconstructed, in rounds; then the layers above.

students, x, y  ->  expand  ->  cluster  ->  reconstruct  ->  Found  ->  students of the layers above
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..base.progress import Progress, Stopwatch
from ..cluster import ClusterConfig, Clustering, cluster_neurons, second_moment
from ..expand import Expansion, better_of, expand, renewed, round_store
from ..network.networks import Layer, Network, random_students, stack, student
from ..objective.imitation import Inputs, Outputs
from ..reconstruct import Candidate, NoClustersError, before_next, exact_loss, fit_output, reconstruct_layer
from .settings import RecoveryConfig


class Found(NamedTuple):
    """A hidden layer, and what it was found from."""

    candidate: Candidate  # the layer is the first of its network
    found_by: str
    expansion: Expansion
    clustering: Clustering


def next_layer(
    students: Network,
    inputs: Inputs,
    targets: Outputs,
    config: RecoveryConfig,
    *,
    key: PRNGKeyArray,
    frozen_below: bool,
    store: Any,
    progress: Progress,
    seconds: Stopwatch,
) -> Found:
    """Expand, cluster and reconstruct; again with renewed students as long as the network is not exact.

    Nor is it certain below other hidden layers that no student imitated exactly: the layer was then judged by what the
    best one reached. Above reconstructed layers, that is all there is to be had.
    """
    exact_below = exact_loss(inputs.dtype) if config.exact_loss is None else config.exact_loss
    expansion, found = None, None
    for turn in range(config.rounds):
        begun = (
            students if expansion is None else renewed(expansion, key=jr.fold_in(key, turn), scale=config.init_scale)
        )
        with seconds.of("expand"):
            trained = expand(
                begun,
                inputs,
                targets,
                config=config.expand,
                key=key,
                store=store if store is None or turn == 0 else round_store(store, turn, config.n_students),
                progress=progress,
            )
            expansion = jax.block_until_ready(trained if expansion is None else better_of(expansion, trained))
        _check_finite(expansion, config)
        progress("cluster", 0, 1)
        with seconds.of("cluster"):
            clustering = cluster_layer(expansion, inputs, config=config.cluster)
        progress("cluster", 1, 1, clusters=clustering.width)
        with seconds.of("reconstruct"):
            try:
                found = reconstructed(
                    expansion, clustering, inputs, targets, config, frozen_below=frozen_below, progress=progress
                )
            except NoClustersError:
                if turn == config.rounds - 1 and found is None:
                    raise
                continue
        if found.candidate.is_exact and (frozen_below or found.candidate.exact_below <= exact_below):
            break
    return cast(Found, found)


def reconstructed(
    expansion, clustering, inputs, targets, config: RecoveryConfig, *, frozen_below: bool = False, progress: Progress
) -> Found:
    """The first hidden layer that these students have."""
    candidate, found_by = reconstruct_layer(
        expansion,
        clustering,
        inputs,
        targets,
        config=config.finetune,
        exact_below=config.exact_loss,
        frozen_below=frozen_below,
        propose=config.propose,
        progress=progress,
    )
    return Found(candidate, found_by, expansion, clustering)


def upper_students(
    expansion: Expansion, candidate: Candidate, inputs: Inputs, config: RecoveryConfig, *, key: PRNGKeyArray
) -> tuple[Network, Inputs]:
    """Students of the layers above a reconstructed one, and the queries that these see.

    A student's next layer is carried over by least squares: the weights with which the reconstructed neurons come
    nearest to the pre-activations that the student's own made. Of a neuron that the student had in several copies, that
    is the sum of their outgoing weights.
    """
    layer, activation = candidate.network.layers[0], expansion.students.activation
    features = activation(layer(inputs))
    if config.upper == "fresh":
        shape = (features.shape[1], *expansion.students.shape[2:])
        return random_students(expansion.n_students, shape, activation, key=key, dtype=features.dtype), features
    uppers = []
    for i in range(expansion.n_students):
        one = student(expansion.students, i)
        fit = fit_output(candidate.vectors, inputs, jnp.nan_to_num(before_next(one, inputs)), activation)
        carried = Layer(jnp.asarray(fit.a, features.dtype), jnp.asarray(fit.c, features.dtype))
        uppers.append(Network((carried, *one.layers[2:]), activation))
    return stack(uppers), features


def _check_finite(expansion: Expansion, config: RecoveryConfig) -> None:
    if expansion.finite.sum() < config.cluster.gamma * config.n_students:
        raise ValueError(
            f"{int((~expansion.finite).sum())} of {config.n_students} students diverged, more than gamma leaves: try "
            'another `method` (method="adam_levenberg_marquardt" is the most careful), or look at the scale of x.'
        )


def cluster_layer(expansion: Expansion, inputs: Inputs, *, config: ClusterConfig) -> Clustering:
    """Cluster the first hidden layer's neurons of all students that did not diverge, on the host in float64."""
    hidden = expansion.students.layers[0]
    w, b = np.asarray(hidden.w, float), np.asarray(hidden.b, float)
    neurons = np.concatenate([w, b[..., None]], axis=-1)[expansion.finite]
    whose = np.broadcast_to(np.flatnonzero(expansion.finite)[:, None], neurons.shape[:2])
    return cluster_neurons(
        neurons.reshape(-1, neurons.shape[-1]),
        whose.reshape(-1).copy(),
        n_students=expansion.n_students,
        symmetry=expansion.students.activation.symmetry,
        moment=second_moment(np.asarray(inputs)) if config.metric == "preactivation" else None,
        config=config,
    )
