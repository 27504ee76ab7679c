"""A layer between others, whose inputs lie in a box: students who are asked about the box.

The row space says how many neurons it has, if they are no more than its inputs: as many as directions.
"""

from itertools import pairwise

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..cluster import ClusterConfig, cluster_neurons
from ..expand import Adam, ExpandConfig, Stopping, expand
from ..network import Activation, random_students
from ..objective import Samples
from ..probe import Probes, Reach, RowSpace
from ..probe.stack import Weights
from .probing import Asking, Layered, ProbesFailedError

_WIDER = 1.5  # students than the number of directions
_NUMBERS = 20.0  # asked for each weight of a student
_STUDENTS = (2, 4)  # at first, and at most
_AGREED = 1e-3  # distance of neurons that agree, in units of their norm
_TRAINING = ExpandConfig(
    method="adam_conjugate", conjugate=Stopping(max_steps=60, patience=20, target_loss=1e-15), adam=Adam(n_steps=500)
)


def by_students(
    asking: Asking, reach: Reach, space: RowSpace, kind: Activation, n_hidden: int
) -> tuple[Weights, Layered]:
    """The first of several hidden layers in a box, in the coordinates of its row space.

    Raises:
        ProbesFailedError: If students do not agree on as many neurons as there are directions.
    """
    rank, fan_out = reach.rank, asking.teacher.fan_out or 1
    widths = (int(np.ceil(_WIDER * rank)), *(rank,) * (n_hidden - 1))
    shape = (rank, *widths, fan_out)
    n_weights = sum((fan_in + 1) * width for fan_in, width in pairwise(shape))
    with asking.seconds.of("ask"):
        u = reach.points(int(np.ceil(_NUMBERS * n_weights / fan_out)), asking.rng)
        y = reach(u)
    middle, spread = reach.middle, float(np.std(u, axis=0).mean())
    samples = Samples(jnp.asarray((u - middle) / spread), jnp.asarray((y - y.mean(axis=0)) / y.std(axis=0)))
    vectors, student = np.zeros((0, rank + 1)), np.zeros(0, int)
    for number in range(_STUDENTS[1]):
        key = jr.fold_in(asking.key, 2**20 + 2**10 * n_hidden + number)
        one = random_students(1, shape, kind, key=key, dtype=jnp.float64)
        with asking.seconds.of("expand"):
            done = expand(one, samples, config=_TRAINING, progress=asking.progress)
        first = done.students.layers[0]
        neurons = np.concatenate([np.asarray(first.w[0]), np.asarray(first.b[0])[:, None]], axis=1)
        vectors = np.concatenate([vectors, neurons])
        student = np.concatenate([student, np.full(len(neurons), number)])
        n = number + 1
        if n < _STUDENTS[0]:
            continue
        near = _AGREED * float(np.median(np.linalg.norm(vectors, axis=1)))
        config = ClusterConfig(metric="euclidean", gamma=2 / n, policy="height", height=near)
        with asking.seconds.of("cluster"):
            clustering = cluster_neurons(vectors, student, n_students=n, symmetry=kind.symmetry, config=config)
        if clustering.width == rank:
            found = np.stack([np.median(clustering.aligned(k).vectors, axis=0) for k in clustering.kept_clusters])
            w = found[:, :-1] / spread
            probes = Probes(vectors, student, n, space.basis, space.singular, "students", asking.teacher.asked)
            return Weights(w, found[:, -1] - w @ middle, kind), Layered(probes, clustering)
    raise ProbesFailedError(
        f"{_STUDENTS[1]} students agree on {clustering.width} neurons of a layer with {rank} directions."
    )
