"""What all recoveries by asking share: the teacher, the precision of its answers, its row space, and its crossings."""

from typing import NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from ..base.progress import Progress, Stopwatch
from ..cluster import ClusterConfig, Clustering, cluster_neurons
from ..data import Teacher
from ..expand import Stopping
from ..network import ACTIVATIONS, Activation
from ..probe import DIRECTIONS, Crossing, Probes, Reach, RowSpace, Shape, natural_scale, row_space, sweep
from ..probe.stack import Stack

_AGREED = 1e-3  # distance of vectors that agree, in units of their norm; probes are right to 1e-5, or quite wrong
_ROUGH = 4.0  # of eps^(1/4): in float32 the worst of 128 neurons is 0.03 off
FAR = 1e5  # of a sweep, in units of the inputs' scale
# Of differences above another layer: their step, and the precision of answers to questions that are right to 1e-6 only.
_STEP_ABOVE, PRECISION_ABOVE = 1e-4, 1e-12
_FAINT_ABOVE = 1e-10  # the same of answers in whose bends kinks are looked for
SWEEPS = 12  # at most
LOOKED_AT = 7  # neurons whose profiles name the activation


class ProbesFailedError(ValueError):
    """No probe found a network that explains the answers."""


class Layered(NamedTuple):
    """One hidden layer as probes found it, in the coordinates of the row space, and who proposed its neurons."""

    probes: Probes
    clustering: Clustering


class Found(NamedTuple):
    """A network as probes found it.

    Attributes:
        stack: Its layers, the first in the coordinates of the row space or in the inputs as they are.
        layers: Of each hidden layer, who proposed it.
        reach: What could be asked.
    """

    stack: Stack
    layers: tuple[Layered, ...]
    reach: Reach


class Swept(NamedTuple):
    """What sweeps far out have shown."""

    crossings: list[Crossing]
    proposer: list[int]


class Asking:
    """One recovery by asking: the teacher, the precision of its answers, and what all probes share."""

    def __init__(
        self,
        teacher: Teacher,
        activations: tuple[Activation, ...] | None,
        key: PRNGKeyArray,
        progress: Progress,
        stop: Stopping,
    ):
        self.teacher, self.progress, self.seconds, self.stop = teacher, progress, Stopwatch(), stop
        self.key, self.rng = key, np.random.default_rng(np.asarray(jr.key_data(key), np.uint32))
        self.activations, self.is_sharp = activations, True

    def candidates(self, layer: int, is_straight: bool) -> list[Activation]:
        """What the activation of a hidden layer may be.

        Any activation that grows looks like relu from far enough: it is no candidate where nothing bends.
        """
        if self.activations is not None:
            return [self.activations[layer]]
        known = [one for one in ACTIVATIONS.values() if not one.symmetry.polynomial]
        return [one for one in known if one.symmetry.homogeneous == is_straight]

    def tell(self, phase: str, done: int, total: int) -> None:
        """Progress, with the questions asked so far."""
        self.progress(phase, done, total, questions=self.teacher.asked)

    def rough(self, limit: float) -> float:
        """A limit of what second differences make, where answers are less precise than float64."""
        return max(limit, _ROUGH * self.teacher.precision**0.25)

    def begun(self) -> tuple[Reach, RowSpace, bool]:
        """What can be asked of the first layer, its row space, and whether answers are straight but for kinks."""
        teacher, rng, box = self.teacher, self.rng, self.teacher.box
        self.tell("row space", 0, 1)
        with self.seconds.of("row space"):
            middle = np.zeros(teacher.fan_in) if box is None else (box.low + box.high) / 2
            teacher(middle[None])  # the first answer tells how precise answers are
            if box is None:
                unit, is_straight = natural_scale(teacher, teacher.fan_in, precision=teacher.precision, rng=rng)
                room = Reach.of(teacher, np.eye(teacher.fan_in), unit)
            else:
                unit, is_straight = float(np.median(box.high - box.low)) / 2, False
                room = Reach.of(teacher, np.eye(teacher.fan_in), unit, box.low, box.high)
            space = self.row_space(room, is_straight)
        self.tell("row space", 1, 1)
        self.is_sharp = is_straight
        return room.along(space.basis), space, is_straight

    def row_space(self, room: Reach, is_straight: bool, *, is_above: bool = False) -> RowSpace:
        """The directions of a layer's inputs that the answers depend on.

        Above another layer rounding is that of all the way back, so that steps are longer; and of hidden states that
        are never negative some neurons hardly ever hear.

        Raises:
            ProbesFailedError: If there are none.
        """
        space = row_space(
            room.teacher,
            len(room.low),
            precision=max(self.teacher.precision, PRECISION_ABOVE if is_above else 0.0),
            scale=room.scale,
            question=lambda: room.questions(1, self.rng)[0],
            is_straight=is_straight,
            step=_STEP_ABOVE * room.scale if is_above and not is_straight else None,
        )
        if not space.rank:
            raise ProbesFailedError("the answers do not change with the questions.")
        return space

    def swept(self, reach: Reach, shape: Shape, so_far: Swept, *, is_above: bool = False) -> Swept:
        """With the crossings of one sweep more; above other layers, not those that their errors make."""
        number = so_far.proposer[-1] + 1 if so_far.proposer else 0
        self.tell("sweep", number, SWEEPS)
        with self.seconds.of("probe"):
            found = sweep(
                reach,
                shape,
                distance=FAR * reach.scale,
                precision=max(self.teacher.precision, _FAINT_ABOVE if is_above else 0.0),
                rng=self.rng,
                known=so_far.crossings,
                is_sharp=self.is_sharp or is_above,  # a kink above others is as sharp as these let it be
            )
        return Swept(so_far.crossings + found, so_far.proposer + [number] * len(found))

    def agreed(self, swept: Swept, space: RowSpace) -> Layered:
        """What several sweeps agree on.

        Two are enough where several outputs have told which crossings are alone, and up to three otherwise.
        """
        n = swept.proposer[-1] + 1
        needed = 2 if (self.teacher.fan_out or 1) > 1 else max(2, min(3, n // 2))
        directions = np.stack([crossing.direction for crossing in swept.crossings])
        return self.clustered(directions, np.array(swept.proposer), n, needed, space, "sweeps")

    def clustered(
        self,
        directions: Float[np.ndarray, "proposed rank"],
        proposer: np.ndarray,
        n: int,
        needed: float,
        space: RowSpace,
        method: str,
    ) -> Layered:
        """What so many of the proposers agree on."""
        vectors = np.concatenate([directions, np.zeros((len(directions), 1))], axis=1)
        probes = Probes(vectors, proposer, n, space.basis, space.singular, method, self.teacher.asked)
        near = self.rough(_AGREED) * float(np.median(np.linalg.norm(vectors, axis=1)))
        config = ClusterConfig(metric="euclidean", gamma=needed / n, policy="height", height=near)
        with self.seconds.of("cluster"):
            clustering = cluster_neurons(vectors, proposer, n_students=n, symmetry=DIRECTIONS, config=config)
        return Layered(probes, clustering)


def directions_of(clustering: Clustering) -> Float[np.ndarray, "width rank"]:
    """A unit vector for each kept cluster."""
    found = np.stack([clustering.aligned(k).vectors[0][:-1] for k in clustering.kept_clusters])
    return found / np.linalg.norm(found, axis=1, keepdims=True)
