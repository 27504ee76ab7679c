"""The whole road: queries and answers in, the teacher's network out.

    x, y  ->  expand  ->  cluster  ->  reconstruct  ->  finetune  ->  Recovery

`recover` alone knows all phases. Every phase can be called by itself with the records of the one before.
"""

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .activations import Activation, as_activation
from .checks import checked_activation, checked_samples
from .cluster import ClusterConfig, Clustering, cluster_neurons, second_moment
from .expand import AdamConfig, ExpandConfig, Expansion, RefineConfig, expand
from .imitation import Inputs, Outputs
from .networks import Layer, Network, random_students
from .progress import Progress, silent
from .reconstruct import Candidate, reconstruct_layer
from .scaling import Scaling, Standardise, scaling

_Config = TypeVar("_Config")


@dataclass(frozen=True, kw_only=True)
class RecoveryConfig:
    """Settings of a recovery; start from `RecoveryConfig.toy` or `RecoveryConfig.data`.

    Attributes:
        student_width: Neurons in the hidden layer of every student; about four times what you expect of the teacher.
        n_students: How many students imitate the teacher.
        init_scale: Factor on the Glorot-normal initial weights. Students that start small are slow to use a neuron they
            do not need, so on real data their neurons come closer to the teacher's; the paper has 1.
        standardise: Train on inputs of mean 0 and variance 1, in "columns" or by one "common" factor (pixels), or "no".
            The result is for the inputs as they came.
        propose: Where the kept clusters do not give an exact network, start from clusters of half as many students,
            then from the best students, and take neurons away as long as the network stays exact. Off, only the kept
            clusters count, as in the paper.
        expand: How the students are trained.
        cluster: Thresholds, metric and cut.
        finetune: When the refinement of the reconstructed network stops.
    """

    student_width: int
    n_students: int = 10
    init_scale: float = 1.0
    standardise: Standardise = "columns"
    propose: bool = True
    expand: ExpandConfig = field(default_factory=ExpandConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    finetune: RefineConfig = field(default_factory=lambda: RefineConfig(max_steps=200, patience=30))

    def __post_init__(self):
        if self.student_width < 1:
            raise ValueError(f"`student_width` is at least 1, best four times the teacher's; got {self.student_width}.")
        if self.standardise not in get_args(Standardise):
            raise ValueError(f"`standardise` is one of {get_args(Standardise)}; got {self.standardise!r}.")
        if not self.init_scale > 0:
            raise ValueError(f"`init_scale` is a positive factor; got {self.init_scale:g}.")
        if self.n_students < 2:
            raise ValueError(
                f"`n_students` is at least 2, since neurons are known by students agreeing; got {self.n_students}."
            )
        if self.cluster.gamma * self.n_students < 2:
            raise ValueError(
                f"gamma * n_students = {self.cluster.gamma * self.n_students:g} is below 2: one student alone "
                f"would make a cluster. Raise `n_students` (now {self.n_students}) or `gamma`."
            )

    @staticmethod
    def toy(student_width: int = 16, n_students: int = 20, **settings: Any) -> "RecoveryConfig":
        """Small teachers in float64 on white inputs."""
        return RecoveryConfig(student_width=student_width, n_students=n_students, **settings)

    @staticmethod
    def data(student_width: int = 32, n_students: int = 8, **settings: Any) -> "RecoveryConfig":
        """Teachers of real data: students agree less closely, so beta is wider."""
        defaults = {
            "init_scale": 0.1,
            "cluster": ClusterConfig(gamma=0.8, beta=np.pi / 6),
            "expand": ExpandConfig(
                adam=AdamConfig(n_steps=3000, learning_rate=3e-3), lbfgs=RefineConfig(max_steps=2000, patience=300)
            ),
        }
        return RecoveryConfig(student_width=student_width, n_students=n_students, **{**defaults, **settings})

    @staticmethod
    def images(student_width: int = 32, n_students: int = 6, **settings: Any) -> "RecoveryConfig":
        """Teachers of images: as `data`, with one scale for all pixels."""
        return RecoveryConfig.data(student_width, n_students, **{"standardise": "common", **settings})


class Recovery(eqx.Module):
    """What was recovered, and everything that decided it.

    Attributes:
        network: The recovered network, for inputs and outputs as they came.
        linear: A linear map of the inputs that is part of the answer because signs stayed undecided; else None.
        loss: Final imitation loss, in units of the targets' variance.
        is_exact: Whether the loss is that of rounding errors, on many more numbers than the network has parameters.
        found_by: "clusters" as in the paper; "clusters of a laxer cut" where refinement had to choose among clusters of
            half as many students; "elimination" where neurons were taken away from a good student.
        unidentified: What the data cannot decide, in words.
        expansion: The students, trained on scaled inputs and targets.
        clusterings: One for every hidden layer.
        scaling: Between the students' units and the user's.
        config: Settings.
        seconds: Time spent in every phase.
    """

    network: Network
    linear: Layer | None
    loss: float = eqx.field(static=True)
    is_exact: bool = eqx.field(static=True)
    found_by: str = eqx.field(static=True)
    unidentified: tuple[str, ...] = eqx.field(static=True)
    expansion: Expansion
    clusterings: tuple[Clustering, ...]
    scaling: Scaling
    config: RecoveryConfig = eqx.field(static=True)
    seconds: dict[str, float] = eqx.field(static=True)

    @property
    def widths(self) -> tuple[int, ...]:
        """How many neurons each hidden layer has, first to last."""
        return self.network.widths

    def summary(self) -> str:
        """What was found, how sure that is, and what it cost, in a few lines."""
        losses = np.asarray(self.expansion.loss)
        verdict = "exact to machine precision" if self.is_exact else "NOT exact: take the widths as a guess"
        widths = "-".join(map(str, self.network.shape))
        lines = [
            f"Recovered a {widths} {self.network.activation.name} network, {verdict} (loss {self.loss:.1e}).",
            f"Found by {self.found_by}; {int(np.sum(self.expansion.finite))} of {len(losses)} students count "
            f"({self.expansion.method}, loss {np.nanmin(losses):.1e} to {np.nanmax(losses):.1e}).",
        ]
        for number, clustering in enumerate(self.clusterings, start=1):
            kept = clustering.kept_clusters
            lines.append(
                f"Layer {number}: {len(kept)} clusters kept of {len(clustering.kept)} candidates, each in at least "
                f"{clustering.needed} of {clustering.n_students} students."
            )
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
    student_width: int | None = None,
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
        hidden_layers: Of the teacher.
        config: All settings; by default `RecoveryConfig.toy()`.
        student_width: Overrides the config, as all that follow do.
        n_students: See `RecoveryConfig`.
        gamma: See `ClusterConfig`.
        beta: See `ClusterConfig`.
        metric: See `ClusterConfig`.
        policy: See `ClusterConfig`.
        method: See `ExpandConfig`.
        allow_few_samples: Go on although there are fewer numbers in y than parameters in a student.
        store: Finished students by number, a mutable mapping; given back, an interrupted recovery goes on where it was.
        progress: Called as the work advances.

    Returns:
        The network with all that decided it. Look at `is_exact` before you trust the widths.

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
    if hidden_layers != 1:
        raise ValueError(f"`hidden_layers`: recovery of 1 hidden layer is available; got {hidden_layers}.")
    checked_activation(activation)
    x, y = checked_samples(x, y, student_width=config.student_width, allow_few_samples=allow_few_samples)

    seconds = _Stopwatch()
    scale = scaling(x, y, standardise=config.standardise)
    inputs, targets = scale.inputs(x), scale.targets(y)

    with seconds.of("expand"):
        shape = (inputs.shape[1], config.student_width, y.shape[1])
        fresh = random_students(config.n_students, shape, activation, key=key, dtype=x.dtype)
        fresh = jax.tree.map(lambda leaf: config.init_scale * leaf, fresh)
        expansion = expand(fresh, inputs, targets, config=config.expand, store=store, progress=progress)
        expansion = jax.block_until_ready(expansion)
    if expansion.finite.sum() < config.cluster.gamma * config.n_students:
        raise ValueError(
            f"{int((~expansion.finite).sum())} of {config.n_students} students diverged, more than gamma leaves: try "
            'another `method` (method="adam_levenberg_marquardt" is the most careful), or look at the scale of x.'
        )

    progress("cluster", 0, 1)
    with seconds.of("cluster"):
        clustering = cluster_layer(expansion, inputs, config=config.cluster)
    progress("cluster", 1, 1, clusters=clustering.width)
    return _rebuilt(x, y, expansion, clustering, scale, config, seconds, progress)


def rebuild(
    recovery: Recovery, clustering: Clustering, x: Inputs, y: Outputs, *, progress: Progress = silent
) -> Recovery:
    """The recovery that another clustering of the same students leads to; nothing is trained again but the result.

    Args:
        recovery: Whose students were clustered.
        clustering: Theirs, cut again; see `ecjax.recut`.
        x: The queries of that recovery.
        y: The answers.
        progress: Called as the work advances.
    """
    config = replace(recovery.config, cluster=clustering.config)
    checked = checked_samples(x, y, student_width=config.student_width, allow_few_samples=True)
    return _rebuilt(*checked, recovery.expansion, clustering, recovery.scaling, config, _Stopwatch(), progress)


def _rebuilt(x, y, expansion, clustering, scale: Scaling, config, seconds: "_Stopwatch", progress) -> Recovery:
    inputs, targets = scale.inputs(x), scale.targets(y)
    with seconds.of("reconstruct"):
        candidate, found_by = reconstruct_layer(
            expansion,
            clustering,
            inputs,
            targets,
            config=config.finetune,
            propose=config.propose,
            progress=progress,
        )
    network, linear = scale.undo(candidate.network, candidate.linear)
    return Recovery(
        network=normalised(network),
        linear=linear,
        loss=candidate.loss,
        is_exact=candidate.is_exact,
        found_by=found_by,
        unidentified=_unidentified(candidate, scale, x),
        expansion=expansion,
        clusterings=(clustering,),
        scaling=scale,
        config=config,
        seconds=seconds.seconds,
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


def normalised(net: Network) -> Network:
    """The same function with incoming vectors (w, b) of norm 1, if the activation is positive homogeneous."""
    if not net.activation.symmetry.homogeneous:
        return net
    hidden, output = net.layers
    norm = jnp.sqrt(jnp.sum(hidden.w**2, axis=-1) + hidden.b**2)
    norm = jnp.where(norm == 0, 1, norm)
    layers = (Layer(hidden.w / norm[:, None], hidden.b / norm), Layer(output.w * norm[None], output.b))
    return Network(layers, net.activation)


def _unidentified(candidate: Candidate, scale: Scaling, x: Inputs) -> tuple[str, ...]:
    """What the data cannot decide, in words."""
    notes = []
    if scale.n_hidden_directions:
        constant = np.flatnonzero(np.ptp(np.asarray(x), axis=0) == 0)
        columns = f" (constant inputs: {', '.join(map(str, constant))})" if len(constant) else ""
        notes.append(
            f"{scale.n_hidden_directions} of {x.shape[1]} input directions do not vary{columns}; weights along "
            "them are invisible and set to 0."
        )
    if np.any(candidate.linear):
        notes.append("the signs of some neurons: a linear map of the inputs is kept beside the network.")
    return tuple(notes)


def _override(config: _Config, **values: Any) -> _Config:
    """A config with the values that are not None."""
    return replace(cast(Any, config), **{name: value for name, value in values.items() if value is not None})


class _Stopwatch:
    """Seconds spent in each phase."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, phase: str):
        """Count for `phase` what is done inside."""
        start = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start
